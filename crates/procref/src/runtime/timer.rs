//! Time limits without an async runtime.
//!
//! One thread per process wakes the futures whose time limit has passed. The thread runs only while a future
//! waits. Crates such as `futures-timer` and `async-io` keep a global thread for this. A forked child does
//! not have that thread, so its time limits would never end.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::helpers::{Helper, LastAct};
use crate::runtime;

/// The time limits of one process. A forked child gets its own, because it has none of its parent's threads.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    queue: Mutex<Sleepers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Sleepers {
    /// The number distinguishes sleepers of one instant.
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    running: bool,
    /// The thread, while it runs.
    thread: Option<Arc<Helper>>,
}

impl Timer {
    pub(crate) const fn new() -> Self {
        Self {
            queue: Mutex::new(Sleepers {
                sleepers: BTreeMap::new(),
                next: 0,
                running: false,
                thread: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns the thread if it has no sleepers, so that it is about to exit.
    pub(crate) fn ending_thread(&self) -> Option<Arc<Helper>> {
        let queue = self.queue();
        queue.thread.clone().filter(|_| queue.sleepers.is_empty())
    }

    fn queue(&self) -> MutexGuard<'_, Sleepers> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The timer's thread. It wakes each sleeper whose time limit has passed, and exits when there are no
    /// sleepers.
    ///
    /// A waker is foreign code. It may poll at once on this thread, and then set a time limit here, block until
    /// another time limit ends, or panic. So this thread calls it without the lock, and after another thread has
    /// taken over the remaining sleepers.
    fn run(&'static self) {
        while let Some((waker, is_relieved)) = self.wait_due() {
            runtime::wake(waker);
            if is_relieved {
                return;
            }
        }
    }

    /// Waits until the time limit of a sleeper has passed, and removes the sleeper.
    ///
    /// Returns its waker, and `true` if another thread has taken over the timer. Returns `None` if there is no
    /// sleeper.
    fn wait_due(&'static self) -> Option<(Waker, bool)> {
        let mut queue = self.queue();
        loop {
            let Some(entry) = queue.sleepers.first_entry() else {
                queue.running = false;
                // This comes before the lock is released, so that `ending_thread` or the list contains the thread.
                queue.thread.take().iter().for_each(Helper::mark_ending);
                return None;
            };
            let left = entry.key().0.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let waker = entry.remove();
                // If no thread is available, this one continues after the waker returns.
                let stays = !queue.sleepers.is_empty() && self.start(&mut queue).is_err();
                queue.running = stays || !queue.sleepers.is_empty();
                if !queue.running {
                    queue.thread.take().iter().for_each(Helper::mark_ending);
                }
                return Some((waker, !stays));
            }
            queue = match self.changed.wait_timeout(queue, left) {
                Ok((queue, _)) => queue,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn start(&'static self, queue: &mut Sleepers) -> io::Result<()> {
        let helper = Arc::new(Helper::default());
        let own = Arc::clone(&helper);
        runtime::thread_builder("procref-timer")
            .spawn(move || own.run(LastAct::Wake, || self.run()))?;
        queue.thread = Some(helper);
        Ok(())
    }
}

/// Returns the future's output, or `None` if the limit passes first. A future that is ready at the first poll
/// needs no thread.
///
/// `timer` returns the timer of the calling process. A child that is forked while the future waits has another one.
pub(crate) async fn timeout<F: Future>(
    timer: fn() -> &'static Timer,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let deadline = Instant::now().checked_add(limit);
    let mut delay = pin!(Delay {
        timer,
        deadline,
        entry: None,
    });
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        delay.as_mut().poll(context).map(|()| None)
    })
    .await
}

struct Delay {
    timer: fn() -> &'static Timer,
    /// `None` if the clock cannot represent the deadline. Such a limit never passes.
    deadline: Option<Instant>,
    entry: Option<(Instant, u64)>,
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        let timer = (self.timer)();
        // Cloning and dropping a waker may run foreign code, so both happen without the lock.
        let waker = context.waker().clone();
        let (replaced, started) = {
            let mut queue = timer.queue();
            let entry = *self.entry.get_or_insert_with(|| {
                queue.next += 1;
                (deadline, queue.next)
            });
            let replaced = queue.sleepers.insert(entry, waker);
            let started = if queue.running {
                timer.changed.notify_one();
                Ok(())
            } else {
                timer.start(&mut queue)
            };
            queue.running |= started.is_ok();
            (replaced, started)
        };
        drop(replaced);
        if let Err(error) = started {
            // The future still completes, but without a time limit.
            tracing::warn!(%error, "no thread is available for time limits");
        }
        Poll::Pending
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            let timer = (self.timer)();
            let waker = timer.queue().sleepers.remove(&entry);
            timer.changed.notify_one();
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Wake;

    use super::*;

    #[test]
    fn timeout_returns_the_output_if_it_is_ready_in_time() {
        static TIMER: Timer = Timer::new();
        let never = std::future::pending::<()>;
        fn timeout<F: Future>(
            limit: Duration,
            future: F,
        ) -> impl Future<Output = Option<F::Output>> {
            super::timeout(|| &TIMER, limit, future)
        }
        pollster::block_on(async {
            assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Some(7));
            assert_eq!(timeout(Duration::from_millis(20), never()).await, None);
            // A shorter limit that is set later does not wait for the longer one.
            let slow = timeout(Duration::from_secs(1000), async {
                timeout(Duration::from_millis(20), never()).await
            });
            assert_eq!(slow.await, Some(None));
        });
    }

    /// A waker that calls a function.
    struct OnWake<F>(F);

    impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }

    /// Sets a time limit. When it ends, the timer's thread calls `on_wake`.
    fn call_after(
        timer: fn() -> &'static Timer,
        limit: Duration,
        on_wake: impl Fn() + Send + Sync + 'static,
    ) -> Pin<Box<Delay>> {
        let waker = Waker::from(Arc::new(OnWake(on_wake)));
        let deadline = Instant::now().checked_add(limit);
        let mut delay = Box::pin(Delay {
            timer,
            deadline,
            entry: None,
        });
        let _ = delay.as_mut().poll(&mut Context::from_waker(&waker));
        delay
    }

    #[test]
    fn timer_continues_when_a_waker_blocks_or_panics() {
        static TIMER: Timer = Timer::new();
        const SOON: Duration = Duration::from_millis(20);
        let timer: fn() -> &'static Timer = || &TIMER;
        let (sender, receiver) = mpsc::channel();
        let done = sender.clone();
        // Blocks the thread that calls the waker until another time limit of the same timer has passed.
        let blocking = call_after(timer, SOON, move || {
            let never = std::future::pending::<()>();
            let _ = done.send(pollster::block_on(timeout(timer, SOON, never)).is_none());
        });
        let panicking = call_after(timer, SOON, || panic!("a waker of a test"));
        // The waker below owns this sleeper, so dropping the waker drops a sleeper of the timer.
        let kept = call_after(timer, SOON * 1000, || {});
        let dropping = call_after(timer, SOON, move || {
            let _ = &kept;
        });
        let last = call_after(timer, SOON * 3, move || {
            let _ = sender.send(true);
        });
        for _ in 0..2 {
            assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok(true));
        }
        drop((blocking, panicking, dropping, last));
        assert_eq!(TIMER.queue().sleepers.len(), 0);
    }
}
