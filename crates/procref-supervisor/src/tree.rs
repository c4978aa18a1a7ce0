//! The processes of a service, as their parent handles them.
//!
//! On Linux, the parent is the *child subreaper* of the service
//! ([PR_SET_CHILD_SUBREAPER(2const)](https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html)): each
//! process of the service that loses its parent is reparented to it. So the parent reaps all of them, and can stop all
//! of them. It is a forked supervisor or a keeper, which learn of an exit in different ways ([`ChildEvents`]).
//!
//! macOS has no subreapers. There the parent is a keeper, which reaps the service's main process, and searches for the
//! others among all processes of the user.

#![expect(unsafe_code, reason = "prctl, waitpid and kill for its own children")]

use core::cell::Cell;
use core::time::Duration;

use crate::clock;
use crate::log::Log;
use crate::prepared::LogSpec;
use crate::spec::{KILL_TIMEOUT, StopSpec};
use crate::state::{Ended, Identity};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

#[cfg(target_os = "linux")]
pub use sys::become_subreaper;

/// Maximum number of leftover processes that get SIGTERM before they are killed. Further processes are killed
/// immediately.
const MAX_SIGNALED: usize = 64;

/// The means by which a parent learns about its children and the log.
pub trait ChildEvents {
    /// Makes [`wait`](Self::wait) return for each event from now on, also if the event comes before the wait.
    fn expect(&self);

    /// Sleeps until a child exits, the log is written to, or the time has passed.
    fn wait(&self, time: Duration);

    /// Calls `call` for each child of this process, on macOS for each process of the service except keepers. Returns
    /// `None` if the list cannot be read.
    fn for_each_child(&self, call: &mut dyn FnMut(i32)) -> Option<()>;
}

/// The processes of a service, which are children of this process.
pub struct Tree<'a, E> {
    events: E,
    stop: StopSpec,
    log: Log<'a>,
    /// The process of the service's program.
    child: Identity,
    /// `true` after the starter has published the service as ready.
    served: Cell<bool>,
    /// The exit status of the service's program. `None` if it is alive.
    ended: Cell<Option<Ended>>,
    /// `true` if this process has no children, except supervisors of other services.
    childless: Cell<bool>,
}

impl<'a, E: ChildEvents> Tree<'a, E> {
    pub fn new(events: E, stop: StopSpec, log: &'a LogSpec, child: Identity) -> Self {
        Self {
            events,
            stop,
            log: Log::new(log),
            child,
            served: Cell::new(false),
            ended: Cell::new(None),
            childless: Cell::new(false),
        }
    }

    /// Returns the process of the service's program.
    pub fn child(&self) -> Identity {
        self.child
    }

    /// Returns the exit status of that process, or `None` if it was alive when it was last checked.
    pub fn exit_status(&self) -> Option<Ended> {
        self.ended.get()
    }

    /// Returns `true` if the process of the service's program has exited.
    pub fn has_exited(&self) -> bool {
        self.reap();
        self.ended.get().is_some()
    }

    /// Records that the starter has published the service as ready.
    pub fn set_served(&self) {
        self.served.set(true);
    }

    /// Checks the log. Returns the time after which to check it again: see [`Log::check`].
    pub fn check_log(&self) -> Option<Duration> {
        self.log.check()
    }

    /// Reaps all children that have exited. A process keeps its pid until it is reaped, so before that no
    /// signal to the pid can reach another process.
    fn reap(&self) {
        loop {
            let mut status = 0;
            // SAFETY: the call writes one integer to `status`, which is alive and borrowed by nothing else.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, sys::WAIT_FLAGS) };
            if pid <= 0 {
                // Without a subreaper, the other processes of the service are no children.
                self.childless.set(pid < 0 && sys::IS_SUBREAPER);
                return;
            }
            if u32::try_from(pid) == Ok(self.child.pid) {
                self.ended.set(Some(if libc::WIFSIGNALED(status) {
                    Ended::Killed(libc::WTERMSIG(status) as u8)
                } else {
                    Ended::Exited(libc::WEXITSTATUS(status) as u8)
                }));
            }
        }
    }

    /// Stops the service and all of its processes. Returns `false` if a process is left.
    pub fn stop_all(&self) -> bool {
        self.events.expect();
        let deadline = self.deadline();
        self.reap();
        if self.ended.get().is_none() {
            // Only the service's main process gets the signal. Many programs stop their workers in a certain
            // order, and would treat the exit of a signaled worker as a crash.
            let pid = self.child.pid as i32;
            signal(pid, self.stop.signal);
            signal(pid, libc::SIGCONT);
            while self.ended.get().is_none() && self.wait_child(deadline) {
                self.reap();
            }
        }
        self.stop_children_until(deadline);
        self.childless.get()
    }

    /// Stops the leftover processes of a service whose program has exited.
    pub fn stop_leftovers(&self) {
        self.events.expect();
        self.note_leftovers();
        self.stop_children_until(self.deadline());
    }

    fn stop_children_until(&self, deadline: Duration) {
        // The service's main process has exited, or the deadline has passed. The leftover processes get
        // SIGTERM, because they may also stop gracefully: for example, a server that a shell has started.
        let mut signaled = [0; MAX_SIGNALED];
        loop {
            self.reap();
            if self.childless.get() {
                return;
            }
            self.for_each_own_child(|pid| {
                if let Some(place) = unused_place(&mut signaled, pid) {
                    *place = pid;
                    signal(pid, libc::SIGTERM);
                    signal(pid, libc::SIGCONT);
                }
            });
            if self.childless.get() {
                return;
            }
            if !self.wait_child(deadline) {
                break;
            }
        }
        // If the parent of a process is killed, the process is reparented to this supervisor, and the next
        // pass of the loop finds it.
        let deadline = clock::now() + KILL_TIMEOUT;
        loop {
            self.reap();
            if self.childless.get() {
                return;
            }
            self.for_each_own_child(|pid| signal(pid, libc::SIGKILL));
            if self.childless.get() || !self.wait_child(deadline) {
                return;
            }
        }
    }

    /// Calls `call` for each child that is not a supervisor, and records whether there is no such child.
    ///
    /// The service's program may use procref itself. The supervisor of another service that it has started is
    /// then reparented to this process. This process does not stop it, because other clients may hold that
    /// service, and if there are none, its own supervisor stops it. So this process must not wait until it
    /// has no children at all. One pass over the list is sufficient to detect that only supervisors remain.
    /// Only this process removes children from the list, by reaping, and the kernel adds new children at the
    /// end.
    fn for_each_own_child(&self, mut call: impl FnMut(i32)) {
        let mut own = 0;
        let read = self.events.for_each_child(&mut |pid| {
            if !sys::is_supervisor(pid) {
                own += 1;
                call(pid);
            }
        });
        // On macOS, the list does not contain a process that is not reaped yet.
        self.childless
            .set(read.is_some() && own == 0 && self.ended.get().is_some());
    }

    /// Writes to the log that the service's program left processes, which the supervisor stops. Does nothing
    /// if the service was never ready, because in that case the starter's error states it.
    fn note_leftovers(&self) {
        let mut any = false;
        self.for_each_own_child(|_| any = true);
        if let (true, true, Some(ended)) = (any, self.served.get(), self.ended.get()) {
            self.log.note_leftovers(ended);
        }
    }

    /// Sleeps until a child exits or the log must be checked. Returns `false` if the deadline has passed.
    fn wait_child(&self, deadline: Duration) -> bool {
        let left = deadline.saturating_sub(clock::now());
        if !left.is_zero() {
            let pause = self.log.check().map_or(left, |pause| pause.min(left));
            self.events.wait(pause);
        }
        // The caller checks whether a child has exited, even after the deadline.
        !deadline.saturating_sub(clock::now()).is_zero()
    }

    /// Returns the end of the grace. A time that the clock cannot represent is replaced by one year.
    fn deadline(&self) -> Duration {
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

        let now = clock::now();
        let end = now.checked_add(self.stop.grace);
        end.or_else(|| now.checked_add(A_YEAR)).unwrap_or(now)
    }
}

/// Returns a free entry to record that a process was signaled. Returns `None` if the process was recorded
/// before, or if there is no free entry.
fn unused_place(signaled: &mut [i32; MAX_SIGNALED], pid: i32) -> Option<&mut i32> {
    let place = signaled
        .iter_mut()
        .find(|known| **known == pid || **known == 0)?;
    (*place == 0).then_some(place)
}

/// Signals a child that is not reaped, so no other process can have its pid. On macOS the process may be no child, and
/// was found by its properties just before.
fn signal(pid: i32, signal: libc::c_int) {
    // SAFETY: no pointers are passed.
    unsafe { libc::kill(pid, signal) };
}
