//! A supervisor that is the service's parent, and so learns of its end, and of every process it leaves.

#![expect(unsafe_code, reason = "SIGCHLD, waitpid and kill for its own children")]

use core::cell::Cell;
use core::ptr;
use core::time::Duration;
use rustix::fd::RawFd;

use rustix::fs::{Mode, OFlags};

use super::calls::{drop_memory, own_identity, write};
use super::entry::expect_ready;
use super::log::{self, LOG, Log};
use crate::calls::{close_from, fork_here, last_errno};
use crate::channel::Message;
use crate::clock;
use crate::crash::{self, Point};
use crate::life::{LaunchHandshake, SubreaperOps, SupervisorOps, launch_and_watch};
use crate::prepared::{ServiceSpec, SupervisorSpec};
use crate::process::SignalSafeProcess;
use crate::raw_calls::{Limit, RawCalls};
use crate::spec::KILL_TIMEOUT;
use crate::state::Identity;
use crate::state::{Ended, Instance};

/// Where its end of the pipe is, once everything else is closed.
const REPORT: RawFd = 0;

/// What every sleep in the kernel is limited by: the handler of SIGCHLD has nothing else to go by.
static LIMIT: Limit = Limit::new();

/// How many processes that a service leaves are asked to end. Further ones are killed.
const ASKED: usize = 64;

pub fn supervise(supervisor: &SupervisorSpec, service: &ServiceSpec) {
    let handshake = PendingSubreaper {
        supervisor,
        service,
    };
    expect_ready(launch_and_watch(supervisor.set, &handshake, service.launch));
}

/// A supervisor that is to be the service's parent.
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
        // SAFETY: takes numbers, and concerns this process alone.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        drop_memory(supervisor);
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
        // Without /proc there is none. The gate stays closed, so the child ends.
        let start = SignalSafeProcess::start_of(pid).ok()?;
        Some(Subreaper {
            supervisor,
            log: Log::new(&service.log),
            child: Identity { pid, start },
            served: Cell::new(false),
            ended: Cell::new(None),
            alone: Cell::new(false),
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
    // The pipe alone may stay open: in a process that another thread of the starter's has forked.
    // Interrupted where it was suspended and continued; anything else leaves no confirm to be had.
    while unsafe {
        // SAFETY: an array of so many initialised entries; those of a number below 0 are left out.
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1)
    } < 0
    {
        if last_errno() != libc::EINTR {
            return false;
        }
    }
    let mut byte = [0_u8];
    let [answer, _] = fds;
    // SAFETY: the buffer is valid for its length.
    answer.revents & libc::POLLIN != 0
        && unsafe { libc::read(confirm, byte.as_mut_ptr().cast(), byte.len()) } == 1
}

pub struct Subreaper<'a> {
    supervisor: &'a SupervisorSpec,
    log: Log<'a>,
    child: Identity,
    /// Its starter has found it ready.
    served: Cell<bool>,
    ended: Cell<Option<Ended>>,
    /// It has no children any more, but for other services' supervisors.
    alone: Cell<bool>,
}

impl Subreaper<'_> {
    /// Takes note of all who have ended. A process that nobody reaps stays in the way of its pid, so until
    /// then no signal to it can reach another one.
    fn reap(&self) {
        loop {
            let mut status = 0;
            // SAFETY: `status` is an integer that the call fills.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if pid <= 0 {
                self.alone.set(pid < 0);
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

    fn end_tree(&self) {
        hold_signals();
        let deadline = self.deadline();
        self.reap();
        if self.ended.get().is_none() {
            // Only the service itself: many stop their workers in an order of their own, and to be asked
            // behind their backs looks like a crash of these.
            let pid = self.child.pid as i32;
            signal(pid, self.supervisor.stop.signal);
            signal(pid, libc::SIGCONT);
            while self.ended.get().is_none() && self.wait_child(deadline) {
                self.reap();
            }
        }
        self.end_until(deadline);
    }

    fn end_until(&self, deadline: Duration) {
        // The service's own process has ended, or has had its time. What it left may well stop in an
        // orderly way, too: the server that a shell had started, say.
        let mut asked = [0; ASKED];
        loop {
            self.reap();
            if self.alone.get() {
                return;
            }
            self.each_child(|pid| {
                if let Some(place) = unasked(&mut asked, pid) {
                    *place = pid;
                    signal(pid, libc::SIGTERM);
                    signal(pid, libc::SIGCONT);
                }
            });
            if self.alone.get() {
                return;
            }
            if !self.wait_child(deadline) {
                break;
            }
        }
        // Whoever loses his parent by this becomes a child of this process, and is found the next time.
        let deadline = clock::now() + KILL_TIMEOUT;
        loop {
            self.reap();
            if self.alone.get() {
                return;
            }
            self.each_child(|pid| signal(pid, libc::SIGKILL));
            if self.alone.get() || !self.wait_child(deadline) {
                return;
            }
        }
    }

    /// Calls back for each child but supervisors, and takes note if there is none.
    ///
    /// Where the program uses procref itself, the supervisor of a service that it has started becomes a child
    /// of this process, and with it the service. Both are left alone: others may hold that service, and if
    /// nobody does, its supervisor stops it. So to wait for the last child to be gone would be to wait
    /// for them. That there is nobody else can be told from one look at the list: this process alone takes
    /// anybody off it, when it reaps, and whoever is put on it comes last.
    fn each_child(&self, mut call: impl FnMut(i32)) {
        let mut others = 0;
        let read = read_children(|pid| {
            if !SignalSafeProcess::is_supervisor(pid as u32) {
                others += 1;
                call(pid);
            }
        });
        self.alone.set(read.is_some() && others == 0);
    }

    /// Explains in the log why processes are stopped that the service's program has left, if its clients had
    /// found it ready. A starter learns it from the error.
    fn note_leftover(&self) {
        let mut others = false;
        self.each_child(|_| others = true);
        if let (true, true, Some(ended)) = (others, self.served.get(), self.ended.get()) {
            self.log.note_leftover(ended);
        }
    }

    /// Sleeps until a child ends or the log has to be looked at; false if neither is before the deadline.
    fn wait_child(&self, deadline: Duration) -> bool {
        let left = deadline.saturating_sub(clock::now());
        if !left.is_zero() {
            wait_signal(self.log.look().map_or(left, |pause| pause.min(left)));
        }
        // At the end of the time, too: whether anything has changed, the caller looks for himself.
        !deadline.saturating_sub(clock::now()).is_zero()
    }

    /// What the clock cannot tell is far enough away.
    fn deadline(&self) -> Duration {
        const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

        let now = clock::now();
        let end = now.checked_add(self.supervisor.stop.grace);
        end.or_else(|| now.checked_add(A_YEAR)).unwrap_or(now)
    }
}

/// Where to note that this process is asked; `None` if it has been, or there is no room.
fn unasked(asked: &mut [i32; ASKED], pid: i32) -> Option<&mut i32> {
    let place = asked
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
        // Set before the look, and again after it: a write that is reported in between ends the sleep, or was
        // seen by the look.
        if let Some(pause) = self.log.look() {
            LIMIT.set(Some(left.map_or(pause, |left| left.min(pause))));
        }
    }

    fn now(&self) -> Duration {
        clock::now()
    }

    fn end_limit(&self) -> Duration {
        self.supervisor.stop.limit()
    }

    async fn end(&self, instance: &Instance) -> bool {
        if instance.identity == self.child {
            self.end_tree();
            self.alone.get()
        } else {
            self.supervisor.end_by_identity(instance)
        }
    }

    async fn remove_files(&self) {
        self.supervisor.unlink_files();
    }

    fn is_parent(&self) -> bool {
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

    fn ended(&self) -> Option<Ended> {
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

    async fn end_rest(&self) {
        hold_signals();
        self.note_leftover();
        self.end_until(self.deadline());
    }

    async fn end_all(&self) {
        self.end_tree();
    }
}

/// Moves the pipe and the log to where they stay, and closes everything else of the starter's.
fn keep_descriptors(report: RawFd, log: RawFd) {
    // Out of the way of each other first.
    let above = LOG + 1;
    let kept = [report, log].map(|fd| {
        // SAFETY: no pointers are passed; the new descriptor is this process's own.
        unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) }
    });
    for (fd, place) in kept.into_iter().zip([REPORT, LOG]) {
        // SAFETY: no pointers are passed; the starter's own descriptor that is replaced is of no use here.
        unsafe { libc::dup3(fd, place, libc::O_CLOEXEC) };
    }
    close_from(above);
}

fn close(fd: RawFd) {
    // SAFETY: the descriptor is this process's own, and is not used again.
    unsafe { libc::close(fd) };
}

/// Signals a child that has not been reaped, so that nobody else can have its pid.
fn signal(pid: i32, signal: libc::c_int) {
    // SAFETY: takes two integers.
    unsafe { libc::kill(pid, signal) };
}

extern "C" fn on_child(_: libc::c_int) {
    LIMIT.expire();
}

extern "C" fn on_log(_: libc::c_int) {
    log::report();
    LIMIT.expire();
}

/// From now on the end of a child, or a write to the log that is to be reported, ends this process's sleep,
/// or the sleep that it is about to begin.
fn handle_signals() {
    handle(libc::SIGCHLD, on_child);
    handle(libc::SIGIO, on_log);
    mask_signals(libc::SIG_UNBLOCK);
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: all zeros is a value of `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_NOCLDSTOP;
    // SAFETY: the handlers write to statics that are made for that, and the action before is not asked for.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// From now on ended children and reports of the log are waited for, and not handled.
fn hold_signals() {
    mask_signals(libc::SIG_BLOCK);
}

fn mask_signals(how: libc::c_int) {
    let set = handled_signals();
    // SAFETY: the set is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) };
}

fn handled_signals() -> libc::sigset_t {
    // SAFETY: all zeros is a value of `sigset_t`.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `set` is a `sigset_t`.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in [libc::SIGCHLD, libc::SIGIO] {
        // SAFETY: `set` is initialised, and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Sleeps until a child ends, the log is written to, or the time is over. The signals are blocked, so one that
/// came before is still there.
fn wait_signal(time: Duration) {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos() as _,
    };
    let set = handled_signals();
    // SAFETY: set and limit are initialised, and details of the signal are not asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const limit) };
    if signal == libc::SIGIO {
        log::report();
    }
}

/// Calls back for each child, in the order that the kernel lists them.
///
/// [proc_tid_children(5)](https://man7.org/linux/man-pages/man5/proc_tid_children.5.html): children of the
/// thread that forked them, and this process has one. A group is not enough, because any process may
/// leave its group; to become nobody's child is what no process can.
///
/// `None`: the list cannot be read.
fn read_children(mut call: impl FnMut(i32)) -> Option<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let list = rustix::fs::open(c"/proc/thread-self/children", flags, Mode::empty()).ok()?;
    let mut buffer = [0_u8; 512];
    let mut number = 0_i32;
    while let Ok(length @ 1..) = rustix::io::read(&list, &mut buffer) {
        for &byte in buffer.iter().take(length) {
            match byte {
                b'0'..=b'9' => {
                    number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
                }
                _ if number > 1 => {
                    call(number);
                    number = 0;
                }
                _ => number = 0,
            }
        }
    }
    Some(())
}
