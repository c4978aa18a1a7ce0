//! Processes on Linux, by pidfd. Start times, and everything on kernels without pidfds, come from `/proc/PID/stat`.

use std::fs;
use std::io::{self, Read as _};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use procref_supervisor::process::{
    SUPERVISOR_TITLE, SignalSafeProcess, Stat, has_exited, is_proc_own, open_pidfd, to_pid,
};
use rustix::io::Errno;

use super::Identity;
use pidfd::Pidfd;

mod fork_epoch;
mod pidfd;
pub(crate) mod proc_info;
mod view;

pub(crate) use fork_epoch::fork_epoch;
pub(crate) use view::view;

pub(crate) use rustix::process::Signal;

pub(super) const TERMINATE: Signal = Signal::TERM;
pub(super) const KILL: Signal = Signal::KILL;
pub(super) const CONTINUE: Signal = Signal::CONT;

/// Time between two checks of a process without a pidfd.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The pidfd of a process, opened when it is first needed. Opening a pidfd costs ten times as much as a
/// query, and a caller that queries a process once does not need it.
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
            // The pidfd is opened before the start time is read. If the start time is right, the pidfd refers
            // to this process, or reports its exit. In the other order, another process could get the pid
            // between the two steps.
            Ok(Some(fd)) => match read_stat(identity.pid) {
                Ok(Some(stat)) if stat.start == identity.start => Opened::Pidfd(fd),
                Ok(_) => Opened::Exited,
                Err(_) => Opened::Refused,
            },
            Err(Errno::SRCH) => Opened::Exited,
            // This process may have no free descriptor, for example.
            Ok(None) | Err(_) => Opened::Refused,
        })
    }

    /// Like [`open`](Self::open). If the pidfd may no longer be the one of this process, opens `fresh`
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
    let stat = read_stat(pid)?;
    if let Some(stat) = &stat {
        if stat.is_alive() {
            return Ok(Some(stat.start));
        }
    }
    // The process is missing, is hidden from this user, or is a zombie. It is also possible that only its
    // first thread has exited. `/proc` then shows the process like a zombie, but the pidfd distinguishes the
    // two.
    let alive = match open_pidfd(pid) {
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
            // This error says nothing about the process, so the process counts as alive.
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
/// Callers treat an error as alive, because it says nothing about the process. The opposite mistake would
/// start a second instance. The process is not signaled.
fn is_listed_alive(identity: Identity) -> io::Result<bool> {
    let stat = read_stat(identity.pid)?;
    Ok(stat.is_some_and(|it| it.start == identity.start && it.is_alive()))
}

pub(super) fn is_pid_alive(pid: u32) -> bool {
    match open_pidfd(pid) {
        Ok(Some(fd)) => !has_exited(&fd),
        Ok(None) => read_stat(pid).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_alive())),
        Err(Errno::SRCH | Errno::INVAL) => false,
        // This process may have no free descriptor, for example. A zombie counts as alive here. It is better
        // to treat an exited process as alive than to start a second instance beside a live one.
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
        // Without a pidfd, the process may exit and its pid may be reused between the check and the signal.
        // The kernel assigns pids in ascending order and then begins again, so a reuse takes a whole round.
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

/// Returns two handles whose descriptor has become another file. One behaves as on this kernel, and one as on
/// a kernel where all pidfds have the same inode.
#[cfg(test)]
pub(super) fn with_file(identity: Identity, file: &std::os::fd::OwnedFd) -> [Handle; 2] {
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
    match read_stat(identity.pid) {
        Ok(Some(stat)) => stat.start != identity.start || stat.executed,
        Ok(None) | Err(_) => true,
    }
}

fn read_stat(pid: u32) -> io::Result<Option<Stat>> {
    check_proc()?;
    let mut buffer = [0; 1024];
    let read = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut buffer));
    match read {
        Ok(length) => Stat::parse(&buffer[..length]).map(Some).ok_or_else(|| {
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

fn check_proc() -> io::Result<()> {
    if is_proc_own()? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "/proc shows the processes of another pid namespace (mount a /proc for this one)",
    ))
}

/// Returns `true` if the process that has this pid now is suspended, by a signal or by a debugger.
pub(crate) fn is_suspended(pid: u32) -> bool {
    matches!(read_stat(pid), Ok(Some(stat)) if stat.is_suspended())
}

/// Returns the text that `ps` shows for a supervisor and for a keeper: `procref: NAME`, on one line.
pub(crate) fn supervisor_title(name: &str) -> String {
    super::title(SUPERVISOR_TITLE, name)
}

/// Returns `true` if the process that has this pid now is a supervisor or a keeper.
pub(crate) fn is_supervisor(pid: u32) -> bool {
    SignalSafeProcess::is_supervisor(pid)
}
