//! Processes on Linux, by pidfd. Start times, and everything on kernels without pidfds, come from `/proc/PID/stat`.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Identity;
use pidfd::{Pidfd, has_exited, poll_exit, to_pid};

mod fork_epoch;
pub(crate) mod forked;
mod pidfd;
mod view;

pub(crate) use fork_epoch::fork_epoch;
pub(crate) use view::view;

pub(crate) use rustix::process::Signal;

pub(super) const TERMINATE: Signal = Signal::TERM;
pub(super) const KILL: Signal = Signal::KILL;
pub(super) const CONTINUE: Signal = Signal::CONT;

/// Time between two checks of a process without a pidfd.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The pidfd of a process, opened when it is first needed. To open one costs ten times as much as a query, and a
/// caller that queries a process once does not need it.
#[derive(Debug, Default)]
pub(super) struct Handle(OnceLock<Opened>);

#[derive(Debug)]
enum Opened {
    Pidfd(Pidfd),
    /// The process has exited. Another process may have its pid.
    Exited,
    /// The kernel or a sandbox refuses pidfds. Every query reads `/proc`.
    Refused,
}

impl Handle {
    fn open(&self, identity: Identity) -> &Opened {
        self.0.get_or_init(|| match Pidfd::open(identity.pid) {
            // The pidfd is opened before the start time is read. If the start time is right, the pidfd refers to this
            // process, or reports its exit. In the other order, another process could get the pid in between.
            Ok(Some(fd)) => match Stat::read(identity.pid) {
                Ok(Some(stat)) if stat.start == identity.start => Opened::Pidfd(fd),
                Ok(_) => Opened::Exited,
                Err(_) => Opened::Refused,
            },
            Err(Errno::SRCH) => Opened::Exited,
            // For example, this process has no free descriptor.
            Ok(None) | Err(_) => Opened::Refused,
        })
    }

    /// Returns what [`open`](Self::open) does. If the pidfd may no longer be the one of this process, opens `fresh`
    /// instead.
    fn open_own<'a>(&'a self, identity: Identity, fresh: &'a Self) -> &'a Opened {
        match self.open(identity) {
            Opened::Pidfd(pidfd) if pidfd.is_own() != Some(true) => fresh.open(identity),
            opened => opened,
        }
    }
}

/// Returns the start time of the process that has `pid` now. Returns `None` if there is none, or if it is a zombie.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = Stat::read(pid)?;
    if let Some(stat) = &stat {
        if stat.is_alive() {
            return Ok(Some(stat.start));
        }
    }
    // The process is missing, is hidden from this user, or is a zombie. Or its first thread has exited and others
    // have not, which looks like a zombie. The pidfd distinguishes them.
    let alive = match pidfd::open(pid) {
        Ok(Some(fd)) => !has_exited(&fd),
        Ok(None) | Err(Errno::SRCH) => false,
        Err(error) => return Err(error.into()),
    };
    match stat {
        Some(stat) => Ok(alive.then_some(stat.start)),
        None if alive => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is alive but /proc does not show it; is /proc mounted, with hidepid?",
        )),
        None => Ok(None),
    }
}

pub(super) fn is_alive(identity: Identity, handle: &Handle) -> bool {
    match handle.open(identity) {
        Opened::Pidfd(fd) => match fd.wait_exit(Duration::ZERO) {
            Ok(Some(exited)) => !exited,
            Ok(None) => is_alive_now(identity),
            // This says nothing about the process, so it counts as alive.
            Err(_) => true,
        },
        Opened::Exited => false,
        Opened::Refused => is_listed_alive(identity).unwrap_or(true),
    }
}

/// Returns `true` if a new lookup finds the process alive.
fn is_alive_now(identity: Identity) -> bool {
    match Handle::default().open(identity) {
        Opened::Pidfd(fd) => match fd.wait_exit(Duration::ZERO) {
            Ok(Some(exited)) => !exited,
            Ok(None) => is_listed_alive(identity).unwrap_or(true),
            Err(_) => true,
        },
        Opened::Exited => false,
        Opened::Refused => is_listed_alive(identity).unwrap_or(true),
    }
}

/// Returns `true` if `/proc` shows the process.
///
/// Callers treat an error as alive, because it says nothing about the process. The opposite mistake would start a
/// second instance beside it. The process is not signaled.
fn is_listed_alive(identity: Identity) -> io::Result<bool> {
    let stat = Stat::read(identity.pid)?;
    Ok(stat.is_some_and(|it| it.start == identity.start && it.is_alive()))
}

pub(super) fn is_pid_alive(pid: u32) -> bool {
    match pidfd::open(pid) {
        Ok(Some(fd)) => !has_exited(&fd),
        Ok(None) => Stat::read(pid).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_alive())),
        Err(Errno::SRCH | Errno::INVAL) => false,
        // For example, this process has no free descriptor. A zombie counts as alive here. It is better to treat an
        // exited process as alive than to start a second one beside a living one.
        Err(_) => to_pid(pid).is_some_and(|pid| {
            matches!(
                rustix::process::test_kill_process(pid),
                Ok(()) | Err(Errno::PERM)
            )
        }),
    }
}

/// Sends a signal. Always returns `true`, because every process can receive one.
pub(super) fn signal(identity: Identity, handle: &Handle, signal: Signal) -> io::Result<bool> {
    let fresh = Handle::default();
    let sent = match handle.open_own(identity, &fresh) {
        Opened::Pidfd(fd) => fd.send(signal),
        Opened::Exited => Ok(()),
        // Without a pidfd, the process may exit and its pid may be reused between the check and the signal. The
        // kernel assigns pids in a circle, so that takes a whole round.
        Opened::Refused => match to_pid(identity.pid) {
            Some(pid) if is_listed_alive(identity)? => rustix::process::kill_process(pid, signal),
            _ => Ok(()),
        },
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the process has exited, at most `timeout`. Returns `true` if it has.
pub(super) fn wait(identity: Identity, handle: &Handle, timeout: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let fresh = Handle::default();
        match handle.open_own(identity, &fresh) {
            Opened::Exited => return Ok(true),
            Opened::Pidfd(fd) => match fd.wait_exit(left) {
                Ok(Some(true)) => return Ok(true),
                Ok(None) if !is_alive_now(identity) => return Ok(true),
                // The descriptor was closed while this thread waited.
                Ok(None) => thread::sleep(RETRY_AFTER.min(left)),
                Ok(Some(false)) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Opened::Refused if !is_listed_alive(identity).unwrap_or(true) => return Ok(true),
            Opened::Refused => thread::sleep(RETRY_AFTER.min(left)),
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Returns a handle as on a kernel without pidfds.
#[cfg(test)]
pub(super) fn without_pidfd() -> Handle {
    Handle(OnceLock::from(Opened::Refused))
}

/// Returns handles whose descriptor has become another file: one as on this kernel, and one as on a kernel where all
/// pidfds have the same inode.
#[cfg(test)]
pub(super) fn with_file(identity: Identity, file: &OwnedFd) -> [Handle; 2] {
    let opened = || {
        let pidfd = Pidfd::open(identity.pid).ok().flatten();
        pidfd.expect("this kernel has pidfds")
    };
    let copy = || file.try_clone().expect("a descriptor");
    [opened(), opened().without_inode()]
        .map(|pidfd| Handle(OnceLock::from(Opened::Pidfd(pidfd.with_file(copy())))))
}

/// Returns `true` if the process has executed a program since it was forked, or if `/proc` does not show it.
pub(crate) fn has_executed(identity: Identity) -> bool {
    match Stat::read(identity.pid) {
        Ok(Some(stat)) => stat.start != identity.start || stat.executed,
        Ok(None) | Err(_) => true,
    }
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) start: u64,
    pub(super) executed: bool,
    /// The lowest 31 signals, one bit each. A bit is set if the first thread blocks the signal.
    pub(super) blocked: u32,
}

/// The beginning of the names of all supervisors.
pub(crate) const SUPERVISOR_TITLE: &str = "procref: ";

/// The lowest 31 signals, except those that cannot be blocked, and except SIGCHLD and SIGIO, which some supervisors
/// handle.
const ALL_BLOCKED: u32 =
    0x7fff_ffff & !(1 << 8) & !(1 << 18) & !(1 << 16) & !(1 << (libc::SIGIO - 1));

/// The flag of a process that has not executed a program since its fork: `include/linux/sched.h`, reported by
/// proc_pid_stat(5).
const PF_FORKNOEXEC: u32 = 0x40;

impl Stat {
    fn read(pid: u32) -> io::Result<Option<Self>> {
        check_proc()?;
        let mut buffer = [0; 1024];
        let read =
            fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut buffer));
        match read {
            Ok(length) => Self::parse(&buffer[..length]).map(Some).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("/proc/{pid}/stat has no start time in field 22"),
                )
            }),
            // ESRCH: the process exited between open and read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Parses `PID (COMMAND) STATE …`. The command may contain spaces and parentheses, so the last `)` ends it. The
    /// state is field 3, the flags are field 9, the start time is field 22, and the blocked signals are field 32.
    pub(super) fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = stat[end + 1..].split(|&byte| byte == b' ').skip(1);
        let state = *fields.next()?.first()?;
        let mut number = |skipped| std::str::from_utf8(fields.nth(skipped)?).ok();
        let flags: u32 = number(5)?.parse().ok()?;
        let start = number(12)?.trim_end().parse().ok()?;
        let blocked = number(9).and_then(|text| text.trim_end().parse().ok());
        Some(Self {
            state,
            start,
            executed: flags & PF_FORKNOEXEC == 0,
            blocked: blocked.unwrap_or(0),
        })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn is_suspended(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Returns `true` if `/proc` shows this process under its own pid. If it does not, `/proc` shows another pid
/// namespace. Makes only system calls.
///
/// This is the quick check before each lookup. [`view`] makes a thorough one when the service is built.
fn is_proc_own() -> Result<bool, Errno> {
    let mut room = [MaybeUninit::uninit(); 16];
    let (pid, _) = rustix::fs::readlinkat_raw(CWD, c"/proc/self", &mut room)?;
    let pid = std::str::from_utf8(pid)
        .ok()
        .and_then(|pid| pid.parse().ok());
    Ok(pid == Some(rustix::process::getpid().as_raw_nonzero().get()))
}

fn check_proc() -> io::Result<()> {
    if is_proc_own()? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "/proc shows the processes of another pid namespace (mount a /proc for this one)",
    ))
}

/// Kills this process, as the OOM killer does. Makes only system calls.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_myself() -> ! {
    loop {
        let _ = rustix::process::kill_process(rustix::process::getpid(), KILL);
    }
}

/// Suspends this process until another process continues it. Makes only system calls.
///
/// The signal goes to this thread, which receives it before it does anything else. If it went to the process, another
/// thread might receive it, and this one would continue for a while.
#[cfg(feature = "crash-points")]
#[expect(unsafe_code, reason = "a signal to one thread")]
pub(crate) fn suspend_myself() {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let [process, thread, signal] = [process, thread, libc::SIGSTOP].map(libc::c_long::from);
    // SAFETY: no pointers are passed. The libc function would use the thread id that libc has stored, which in a
    // supervisor is that of its starter.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}

/// A process, for code that must be async-signal-safe.
pub(crate) struct SignalSafeProcess(OwnedFd);

impl SignalSafeProcess {
    /// Returns the process, or `None` if it has exited.
    ///
    /// # Errors
    ///
    /// There are no pidfds, or `/proc` cannot be read.
    pub(crate) fn find(identity: Identity) -> Result<Option<Self>, Errno> {
        let fd = match pidfd::open(identity.pid) {
            Ok(Some(fd)) => fd,
            Ok(None) => return Err(Errno::NOSYS),
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        let start = match Self::start_of(identity.pid) {
            Ok(start) => start,
            Err(_) if has_exited(&fd) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((start == identity.start && !has_exited(&fd)).then_some(Self(fd)))
    }

    pub(crate) fn into_pidfd(self) -> OwnedFd {
        self.0
    }

    /// Returns the start time of the process that has this pid now.
    pub(crate) fn start_of(pid: u32) -> Result<u64, Errno> {
        let mut buffer = [0; 1024];
        let stat = Stat::parse(read_stat(pid, &mut buffer)?);
        Ok(stat.ok_or(Errno::INVAL)?.start)
    }

    /// Returns `true` if the process that has this pid now is a supervisor.
    ///
    /// The name alone does not show it, because a process can give itself any name. A supervisor has also executed no
    /// program since its fork, and it blocks every signal as long as it runs. So a program that was executed is no
    /// supervisor, whatever its name. A process that imitates all three is not distinguished.
    pub(crate) fn is_supervisor(pid: u32) -> bool {
        let mut buffer = [0; 1024];
        let Ok(text) = read_stat(pid, &mut buffer) else {
            return false;
        };
        let name = text.splitn(2, |byte| *byte == b'(').nth(1);
        let named = name.is_some_and(|name| name.starts_with(SUPERVISOR_TITLE.as_bytes()));
        let blocks = |stat: Stat| !stat.executed && stat.blocked & ALL_BLOCKED == ALL_BLOCKED;
        named && Stat::parse(text).is_some_and(blocks)
    }

    /// Asks the process to exit with `signal`, kills it after `grace`, and waits until it has exited. Returns `false`
    /// if it is still alive after `kill`.
    pub(crate) fn end(&self, signal: Signal, grace: Duration, kill: Duration) -> bool {
        let _ = rustix::process::pidfd_send_signal(&self.0, signal);
        let _ = rustix::process::pidfd_send_signal(&self.0, CONTINUE);
        if poll_exit(&self.0, grace) == Ok(true) {
            return true;
        }
        let _ = rustix::process::pidfd_send_signal(&self.0, KILL);
        poll_exit(&self.0, kill) == Ok(true)
    }
}

/// Returns `true` if the process that has this pid now is suspended, by a signal or by a debugger.
pub(crate) fn is_suspended(pid: u32) -> bool {
    matches!(Stat::read(pid), Ok(Some(stat)) if stat.is_suspended())
}

/// Reads the beginning of `/proc/PID/stat`.
fn read_stat(pid: u32, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    if !is_proc_own()? {
        return Err(Errno::NXIO);
    }
    let mut path = [0; 32];
    let path = stat_path(pid, &mut path);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::open(path, flags, Mode::empty())?;
    let length = rustix::io::read(&stat, &mut *buffer)?;
    buffer.get(..length).ok_or(Errno::INVAL)
}

/// Returns the path `/proc/PID/stat`, without allocating.
fn stat_path(pid: u32, room: &mut [u8; 32]) -> &CStr {
    let mut cursor = io::Cursor::new(&mut room[..31]);
    // A pid has at most ten digits, so the path fits.
    let _ = write!(cursor, "/proc/{pid}/stat");
    CStr::from_bytes_until_nul(room).unwrap_or(c"")
}
