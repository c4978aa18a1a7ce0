//! The threads of procref that are about to exit.
//!
//! A call returns when a thread of procref has done its work, and a moment before that thread has exited. A program that
//! forks in that moment forks a process with threads, for which CPython prints a warning. So `acquire` waits for the
//! exit of these threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::process_local::{self, Local};
use super::sys;

/// The longest time that a call in an executor waits for exits. A thread needs some microseconds. It needs longer if
/// the machine is busy, or if the waker that it calls waits for this call.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(20);

/// The longest time that a blocking call waits for exits.
pub(crate) const PATIENTLY: Duration = Duration::from_secs(1);

/// Number of checks before the waiting thread sleeps between two checks.
const BUSY_CHECKS: u32 = 20;

/// Number of ending threads from which those that have exited are removed from the list.
const MANY: usize = 64;

thread_local! {
    /// The helper that this thread is, if the thread exits after it has called a waker.
    static WAKER_IS_LAST: Cell<Option<Arc<Helper>>> = const { Cell::new(None) };
}

/// A thread of procref.
#[derive(Debug, Default)]
pub(crate) struct Helper {
    /// The system's id of the thread. 0 before the thread runs.
    id: AtomicU32,
}

/// The last act of a thread of procref.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastAct {
    /// The thread calls wakers and exits.
    Wake,
    /// The thread may call wakers at any time.
    Other,
}

impl Helper {
    /// Does the work of the thread on this thread.
    pub(crate) fn run(self: Arc<Self>, last_act: LastAct, work: impl FnOnce()) {
        /// Also runs if the work panics.
        struct Ending(Arc<Helper>);
        impl Drop for Ending {
            fn drop(&mut self) {
                self.0.mark_ending();
            }
        }
        self.id.store(sys::thread_id(), Ordering::Release);
        let ending = Ending(self);
        if last_act == LastAct::Wake {
            WAKER_IS_LAST.set(Some(Arc::clone(&ending.0)));
        }
        work();
    }

    /// Records that the thread is about to exit.
    pub(crate) fn mark_ending(self: &Arc<Self>) {
        let mut ending = lock(process_local::get());
        if ending.len() >= MANY {
            ending.retain(|helper| helper.is_alive());
        }
        if !ending.iter().any(|helper| Arc::ptr_eq(helper, self)) {
            ending.push(Arc::clone(self));
        }
    }

    /// Returns `true` if the thread exists, or will begin to run.
    pub(crate) fn is_alive(&self) -> bool {
        match self.id.load(Ordering::Acquire) {
            0 => cfg!(unix),
            id => sys::is_thread_alive(id),
        }
    }

    fn is_other_and_alive(&self, own: u32) -> bool {
        self.id.load(Ordering::Acquire) != own && self.is_alive()
    }
}

fn lock(local: &Local) -> std::sync::MutexGuard<'_, Vec<Arc<Helper>>> {
    local.ending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records that this thread calls a waker. If that is its last act, the thread is about to exit.
///
/// This comes before the call, so that the woken task finds the thread in the list.
pub(super) fn about_to_wake() {
    // A waker may also be called while the thread-local values of a thread are being dropped.
    if let Ok(Some(helper)) = WAKER_IS_LAST.try_with(Cell::take) {
        helper.mark_ending();
    }
}

/// Waits until the threads that were about to exit have exited, except this one.
///
/// The wait has a limit, because a thread cannot exit while the waker that it calls blocks, and that waker may wait for
/// a lock of the caller.
pub(crate) fn wait_ending(limit: Duration) {
    let local = process_local::get();
    let own = sys::thread_id();
    let begun = Instant::now();
    for check in 0.. {
        let mut ending = lock(local);
        ending.retain(|helper| helper.is_alive());
        let remaining = ending.iter().any(|helper| helper.is_other_and_alive(own));
        let is_late = begun.elapsed() >= limit;
        if is_late {
            // The next call does not wait for these threads again.
            ending.clear();
        }
        drop(ending);
        let timer = local.timer.ending_thread();
        let remaining = remaining || timer.is_some_and(|timer| timer.is_other_and_alive(own));
        if !remaining || is_late {
            return;
        }
        if check < BUSY_CHECKS {
            thread::yield_now();
        } else {
            thread::sleep(Duration::from_micros(50));
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::runtime::{start_blocking, timer};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn wait_ending_returns_after_the_threads_have_exited() {
        for _ in 0..50 {
            let blocking = start_blocking("test", || 7).unwrap();
            let helper = Arc::clone(blocking.helper());
            assert_eq!(pollster::block_on(blocking.output()), 7);
            wait_ending(LONG);
            assert!(!helper.is_alive());
        }
    }

    #[test]
    fn wait_ending_does_not_wait_for_working_threads() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let blocking = start_blocking("test", move || receiver.recv().is_ok()).unwrap();
        let helper = Arc::clone(blocking.helper());
        let begun = Instant::now();
        wait_ending(LONG);
        assert!(begun.elapsed() < LONG / 2 && helper.is_alive());
        sender.send(()).unwrap();
        assert!(pollster::block_on(blocking.output()));
    }

    /// The waker of a foreign executor may wait for a lock that the caller holds.
    #[test]
    fn wait_ending_does_not_wait_long_for_a_waker_that_blocks() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let helper = Arc::new(Helper::default());
        let thread = thread::spawn({
            let helper = Arc::clone(&helper);
            move || {
                helper.run(LastAct::Wake, || {
                    about_to_wake();
                    let _ = receiver.recv();
                });
            }
        });
        while helper.id.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let begun = Instant::now();
        wait_ending(BRIEFLY);
        assert!(begun.elapsed() < LONG && helper.is_alive());
        drop(sender);
        thread.join().unwrap();
    }

    #[test]
    fn wait_ending_includes_the_timer_without_sleepers() {
        let timer = || &process_local::get().timer;
        let slept = timer::timeout(
            timer,
            Duration::from_millis(5),
            std::future::pending::<()>(),
        );
        assert_eq!(pollster::block_on(slept), None);
        wait_ending(LONG);
        let ending = timer().ending_thread();
        assert!(ending.is_none_or(|helper| !helper.is_alive()));
    }
}
