//! Processes on Linux: pidfds, and `/proc/PID/stat`.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal};

use super::{SUPERVISOR_TITLE, has_exited, poll_exit, to_pid};
use crate::state::Identity;
use crate::text::TextBuffer;

/// A process, for code that must be async-signal-safe.
pub struct SignalSafeProcess(OwnedFd);

impl SignalSafeProcess {
    /// Returns the process, or `None` if it has exited.
    ///
    /// # Errors
    ///
    /// There are no pidfds, or `/proc` cannot be read.
    pub fn find(identity: Identity) -> Result<Option<Self>, Errno> {
        let fd = match open_pidfd(identity.pid) {
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

    /// Returns a descriptor that is readable when the process has exited.
    pub fn into_exit_fd(self) -> OwnedFd {
        self.0
    }

    /// Returns the start time of the process that has this pid now.
    pub fn start_of(pid: u32) -> Result<u64, Errno> {
        let mut buffer = [0; 1024];
        let stat = Stat::parse(read_stat(pid, &mut buffer)?);
        Ok(stat.ok_or(Errno::INVAL)?.start)
    }

    /// Returns `true` if the process that has this pid now has begun to exit, or if there is none.
    pub fn is_exiting(pid: u32) -> bool {
        let mut buffer = [0; 1024];
        let stat = read_stat(pid, &mut buffer).ok().and_then(Stat::parse);
        stat.is_none_or(|stat| stat.exiting)
    }

    /// Returns `true` if the process that has this pid now is a supervisor.
    ///
    /// The name alone is not sufficient, because a process can give itself any name. A supervisor has also
    /// executed no program after its fork, and it blocks every signal while it runs. So an executed program
    /// with such a name is not a supervisor. A process that imitates all three properties is treated as one.
    pub fn is_supervisor(pid: u32) -> bool {
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
    pub fn end(&self, signal: Signal, grace: Duration, kill: Duration) -> bool {
        let _ = rustix::process::pidfd_send_signal(&self.0, signal);
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::CONT);
        if poll_exit(&self.0, grace) == Ok(true) {
            return true;
        }
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
        poll_exit(&self.0, kill) == Ok(true)
    }
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    pub state: u8,
    pub start: u64,
    pub executed: bool,
    /// `true` if the first thread has begun to exit. The process may still have its descriptors.
    pub exiting: bool,
    /// The lowest 31 signals, one bit each. A bit is set if the first thread blocks the signal.
    pub blocked: u32,
}

/// The lowest 31 signals, except those that cannot be blocked, and except SIGCHLD and SIGIO, which some supervisors
/// handle.
const ALL_BLOCKED: u32 =
    0x7fff_ffff & !(1 << 8) & !(1 << 18) & !(1 << 16) & !(1 << (libc::SIGIO - 1));

/// The flag of a process that has not executed a program since its fork: `include/linux/sched.h`, reported by
/// proc_pid_stat(5).
const PF_FORKNOEXEC: u32 = 0x40;
/// The flag of a thread that has begun to exit.
const PF_EXITING: u32 = 0x4;

impl Stat {
    /// Parses `PID (COMMAND) STATE …`. The command may contain spaces and parentheses, so the last `)` ends it. The
    /// state is field 3, the flags are field 9, the start time is field 22, and the blocked signals are field 32.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let mut fields = stat[end + 1..].split(|&byte| byte == b' ').skip(1);
        let state = *fields.next()?.first()?;
        let mut number = |skipped| core::str::from_utf8(fields.nth(skipped)?).ok();
        let flags: u32 = number(5)?.parse().ok()?;
        let start = number(12)?.trim_end().parse().ok()?;
        let blocked = number(9).and_then(|text| text.trim_end().parse().ok());
        Some(Self {
            state,
            start,
            executed: flags & PF_FORKNOEXEC == 0,
            exiting: flags & PF_EXITING != 0,
            blocked: blocked.unwrap_or(0),
        })
    }

    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    pub fn is_suspended(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Returns `true` if `/proc` shows this process under its own pid. Otherwise, `/proc` belongs to another pid
/// namespace. Makes only system calls.
///
/// This is a quick check before each lookup. procref makes a thorough check when the service is built.
pub fn is_proc_own() -> Result<bool, Errno> {
    let mut room = [MaybeUninit::uninit(); 16];
    let (pid, _) = rustix::fs::readlinkat_raw(CWD, c"/proc/self", &mut room)?;
    let pid = core::str::from_utf8(pid)
        .ok()
        .and_then(|pid| pid.parse().ok());
    Ok(pid == Some(rustix::process::getpid().as_raw_nonzero().get()))
}

/// Reads the beginning of `/proc/PID/stat`.
fn read_stat(pid: u32, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    if !is_proc_own()? {
        return Err(Errno::NXIO);
    }
    // A pid has at most ten digits, so the path and its NUL fit.
    let path = TextBuffer::<32>::format(format_args!("/proc/{pid}/stat"));
    let path = CStr::from_bytes_until_nul(path.padded()).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::open(path, flags, Mode::empty())?;
    let length = rustix::io::read(&stat, &mut *buffer)?;
    buffer.get(..length).ok_or(Errno::INVAL)
}

/// Opens the pidfd of the process that has this pid. Makes only system calls.
///
/// Returns `None` if this kernel or sandbox has no pidfds, and `ESRCH` if no process has this pid.
pub fn open_pidfd(pid: u32) -> Result<Option<OwnedFd>, Errno> {
    let pid = to_pid(pid).ok_or(Errno::SRCH)?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        // Most seccomp filters return EPERM. The call itself never returns it.
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        // The number is that of a thread which is not the first one of its process. No process has this pid.
        Err(Errno::INVAL | Errno::NOENT) => Err(Errno::SRCH),
        Err(error) => Err(error),
    }
}
