//! A supervisor that launches the service and is the parent of its processes.
//!
//! It is the *child subreaper* of the service
//! ([PR_SET_CHILD_SUBREAPER(2const)](https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html)): each
//! process of the service that loses its parent is reparented to this process. So this process reaps all of them, and
//! can stop all of them.

#![expect(
    unsafe_code,
    reason = "prctl, poll, waitpid and kill for its own children"
)]

use core::cell::Cell;
use core::time::Duration;

use rustix::fd::RawFd;

use super::calls::{close, own_identity, unmap_dispensable, write};
use super::children::for_each_child;
use super::entry::expect_ready;
use super::log::{LOG, Log};
use super::signals::{LIMIT, block_handled, handle_signals, wait_signal};
use crate::calls::{close_from, fork_here, last_errno};
use crate::channel::Message;
use crate::clock;
use crate::crash::{self, Point};
use crate::life::launch_and_watch;
use crate::ops::{LaunchHandshake, SubreaperOps, SupervisorOps};
use crate::prepared::{ServiceSpec, SupervisorSpec};
use crate::process::SignalSafeProcess;
use crate::raw_calls::{Limit, RawCalls};
use crate::spec::KILL_TIMEOUT;
use crate::state::{Ended, Identity, Instance};

/// The supervisor's descriptor of the pipe to its starter, after [`keep_descriptors`] has moved it.
const REPORT: RawFd = 0;

/// Maximum number of leftover processes that get SIGTERM before they are killed. Further processes are killed
/// immediately.
const MAX_SIGNALED: usize = 64;

pub(super) fn supervise(supervisor: &SupervisorSpec, service: &ServiceSpec) {
    let handshake = PendingSubreaper {
        supervisor,
        service,
    };
    expect_ready(launch_and_watch(supervisor.set, &handshake, service.launch));
}

/// A supervisor that will become the parent of a service.
struct PendingSubreaper<'a> {
    supervisor: &'a SupervisorSpec,
    service: &'a ServiceSpec,
}

impl PendingSubreaper<'_> {
    fn report(&self, message: Message) -> bool {
        write(self.supervisor.ready, &message.encode())
    }
}

impl<'a> LaunchHandshake for PendingSubreaper<'a> {
    type Subreaper = Subreaper<'a>;
    type Ops = SupervisorSpec;

    fn port(&self) -> u16 {
        self.service.port
    }

    fn report_blocked(&self) -> bool {
        self.report(Message::Blocked)
    }

    fn report_registered(&self) -> bool {
        self.report(Message::Registered(own_identity()))
    }

    fn report_launched(&self, instance: &Instance) -> bool {
        let message = Message::Launched {
            identity: instance.identity,
            port: instance.port,
        };
        write(REPORT, &message.encode())
    }

    async fn await_confirm(&self) -> bool {
        await_confirm(self.service)
    }

    async fn fork(&self) -> Option<Subreaper<'a>> {
        let Self {
            supervisor,
            service,
        } = *self;
        // SAFETY: no pointers are passed, and the setting concerns this process alone.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        unmap_dispensable(supervisor);
        handle_signals();
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        let pid = match fork_here() {
            0 => service.program.run(parent),
            pid => u32::try_from(pid).unwrap_or(0),
        };
        if pid == 0 {
            self.report(Message::ForkFailed(last_errno()));
            return None;
        }
        crash::point(Point::ServiceForked);
        keep_descriptors(supervisor.ready, service.log_file);
        // Without `/proc`, there is no start time. The gate stays closed, so the child exits.
        let start = SignalSafeProcess::start_of(pid).ok()?;
        Some(Subreaper {
            supervisor,
            log: Log::new(&service.log),
            child: Identity { pid, start },
            served: Cell::new(false),
            ended: Cell::new(None),
            childless: Cell::new(false),
        })
    }

    fn ops(&self) -> &SupervisorSpec {
        self.supervisor
    }
}

fn await_confirm(service: &ServiceSpec) -> bool {
    let [confirm, starters_end] = service.confirm;
    close(starters_end);
    let mut fds = [confirm, service.starter].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // The pipe alone is not sufficient, because a process that another thread of the starter has forked may
    // keep it open. EINTR occurs if a suspended process was continued. Any other error counts as no
    // confirmation.
    while unsafe {
        // SAFETY: `fds` is an array of that many initialized entries, which the call may write to. Nothing else borrows
        // it. The kernel ignores an entry with a negative descriptor.
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1)
    } < 0
    {
        if last_errno() != libc::EINTR {
            return false;
        }
    }
    let mut byte = [0_u8];
    let [answer, _] = fds;
    // SAFETY: the call writes at most one byte to `byte`, which is alive and borrowed by nothing else.
    answer.revents & libc::POLLIN != 0
        && unsafe { libc::read(confirm, byte.as_mut_ptr().cast(), byte.len()) } == 1
}

/// The parent of a service's processes.
pub(super) struct Subreaper<'a> {
    supervisor: &'a SupervisorSpec,
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

impl Subreaper<'_> {
    /// Reaps all children that have exited. A process keeps its pid until it is reaped, so before that no
    /// signal to the pid can reach another process.
    fn reap(&self) {
        loop {
            let mut status = 0;
            // SAFETY: the call writes one integer to `status`, which is alive and borrowed by nothing else.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if pid <= 0 {
                self.childless.set(pid < 0);
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

    fn stop_all(&self) {
        block_handled();
        let deadline = self.deadline();
        self.reap();
        if self.ended.get().is_none() {
            // Only the service's main process gets the signal. Many programs stop their workers in a certain
            // order, and would treat the exit of a signaled worker as a crash.
            let pid = self.child.pid as i32;
            signal(pid, self.supervisor.stop.signal);
            signal(pid, libc::SIGCONT);
            while self.ended.get().is_none() && self.wait_child(deadline) {
                self.reap();
            }
        }
        self.stop_children_until(deadline);
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
        let read = for_each_child(|pid| {
            if !SignalSafeProcess::is_supervisor(pid as u32) {
                own += 1;
                call(pid);
            }
        });
        self.childless.set(read.is_some() && own == 0);
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
            wait_signal(self.log.check().map_or(left, |pause| pause.min(left)));
        }
        // The caller checks whether a child has exited, even after the deadline.
        !deadline.saturating_sub(clock::now()).is_zero()
    }

    /// Returns the end of the grace. A time that the clock cannot represent is replaced by one year.
    fn deadline(&self) -> Duration {
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

        let now = clock::now();
        let end = now.checked_add(self.supervisor.stop.grace);
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

impl SupervisorOps for Subreaper<'_> {
    type Calls = RawCalls;

    fn limit(&self) -> &Limit {
        &LIMIT
    }

    fn set_limit(&self, left: Option<Duration>) {
        LIMIT.set(left);
        // Set the limit before the check of the log, and again after it. A write that is reported after the
        // first step ends the sleep. The check detects earlier writes.
        if let Some(pause) = self.log.check() {
            LIMIT.set(Some(left.map_or(pause, |left| left.min(pause))));
        }
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn stop_limit(&self) -> Duration {
        self.supervisor.stop.limit()
    }

    async fn stop_instance(&self, instance: &Instance) -> bool {
        if instance.identity == self.child {
            self.stop_all();
            self.childless.get()
        } else {
            self.supervisor.stop_by_identity(instance)
        }
    }

    async fn remove_files(&self) {
        self.supervisor.unlink_files();
    }

    async fn remove_failure_note(&self) {
        self.supervisor.unlink_failure_note();
    }

    fn is_subreaper(&self) -> bool {
        true
    }

    fn has_exited(&self) -> bool {
        self.reap();
        self.ended.get().is_some()
    }
}

impl SubreaperOps for Subreaper<'_> {
    fn child(&self) -> Identity {
        self.child
    }

    fn exit_status(&self) -> Option<Ended> {
        self.ended.get()
    }

    fn report_exit(&self) {
        if let Some(ended) = self.ended.get() {
            write(REPORT, &Message::Exited(ended).encode());
        }
    }

    fn report_tree_exited(&self) {
        write(REPORT, &Message::TreeExited.encode());
    }

    fn close_report(&self) {
        self.served.set(true);
        close(REPORT);
    }

    async fn stop_leftovers(&self) {
        block_handled();
        self.note_leftovers();
        self.stop_children_until(self.deadline());
    }

    async fn stop_tree(&self) {
        self.stop_all();
    }
}

/// Moves the pipe and the log to their numbers, and closes all other descriptors of the starter.
fn keep_descriptors(report: RawFd, log: RawFd) {
    // Copy both to free numbers first, because each may have the number that the other one needs.
    let above = LOG + 1;
    let kept = [report, log].map(|fd| {
        // SAFETY: no pointers are passed. The new descriptor has a number that was free.
        unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) }
    });
    for (fd, place) in kept.into_iter().zip([REPORT, LOG]) {
        // SAFETY: no pointers are passed. The descriptor that is replaced was the starter's, and no code of this
        // process uses it.
        unsafe { libc::dup3(fd, place, libc::O_CLOEXEC) };
    }
    close_from(above);
}

/// Signals a child that is not reaped, so no other process can have its pid.
fn signal(pid: i32, signal: libc::c_int) {
    // SAFETY: no pointers are passed.
    unsafe { libc::kill(pid, signal) };
}
