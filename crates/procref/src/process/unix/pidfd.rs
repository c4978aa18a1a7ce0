//! A process's pidfd that is kept open in a program that may close it.
//!
//! Some programs close all descriptors that they do not know, and open others, which get the same numbers. Then
//! the number that is remembered here is no descriptor, or another file, or the pidfd of another process. So what
//! it reports is never taken for granted: an end is confirmed by a fresh look-up, and a signal is sent only
//! through a descriptor that is known to be the right one.

use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// A pidfd, and what tells it from another file with its number.
#[derive(Debug)]
pub(super) struct Pidfd {
    /// `None` only in `drop`.
    fd: Option<OwnedFd>,
    /// `None`: on this kernel all pidfds have the same inode.
    file: Option<File>,
}

/// Device and inode. Since Linux 6.9 each process has its own inode among pidfds, and no other process gets it
/// until the machine is booted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File(u64, u64);

impl Pidfd {
    /// As [`open`].
    pub(super) fn open(pid: u32) -> Result<Option<Self>, Errno> {
        Ok(open(pid)?.map(|fd| Self {
            file: file_of(&fd).filter(|_| has_inodes(&fd)),
            fd: Some(fd),
        }))
    }

    fn fd(&self) -> &OwnedFd {
        self.fd.as_ref().expect("taken only in drop")
    }

    /// Whether the number is still that of this pidfd. `None`: this kernel does not tell.
    pub(super) fn is_own(&self) -> Option<bool> {
        self.file.map(|file| file_of(self.fd()) == Some(file))
    }

    /// Waits until the process has exited, and returns whether it has. `None`: another file may have answered.
    ///
    /// The descriptor is checked after it has answered. Checked before, it could be closed in between. On kernels
    /// that do not tell pidfds apart, only an end is doubted: a look-up for each answer would cost every join more
    /// than the rest of it.
    pub(super) fn wait_exit(&self, timeout: Duration) -> Result<Option<bool>, Errno> {
        let exited = poll_exit(self.fd(), timeout)?;
        Ok(match self.is_own() {
            Some(true) => Some(exited),
            None if !exited => Some(false),
            None | Some(false) => None,
        })
    }

    pub(super) fn send(&self, signal: Signal) -> Result<(), Errno> {
        rustix::process::pidfd_send_signal(self.fd(), signal)
    }

    /// A pidfd whose number has become that of another file.
    #[cfg(test)]
    pub(super) fn with_file(mut self, other: OwnedFd) -> Self {
        self.fd = Some(other);
        self
    }

    /// A pidfd as it is where all have the same inode.
    #[cfg(test)]
    pub(super) fn without_inode(mut self) -> Self {
        self.file = None;
        self
    }
}

/// Opens the pidfd of the process that has this pid. Makes only system calls.
///
/// `Ok(None)`: this kernel or sandbox has no pidfds. `ESRCH`: no process has this pid.
pub(super) fn open(pid: u32) -> Result<Option<OwnedFd>, Errno> {
    let pid = to_pid(pid).ok_or(Errno::SRCH)?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        // A sandbox's seccomp filter mostly answers EPERM; the call itself never does.
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        // The number of a thread that is not its process's first one: no process has it.
        Err(Errno::INVAL | Errno::NOENT) => Err(Errno::SRCH),
        Err(error) => Err(error),
    }
}

/// Whether the process has exited. A failing poll says nothing about it: alive until shown otherwise.
pub(super) fn has_exited(pidfd: &OwnedFd) -> bool {
    poll_exit(pidfd, Duration::ZERO).unwrap_or(false)
}

/// Waits until the process has exited, reaped or not. A pidfd is readable once the whole thread group has.
/// `/proc` says `Z` already when only the first thread has, with the others still at work.
pub(super) fn poll_exit(pidfd: &OwnedFd, timeout: Duration) -> Result<bool, Errno> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    Ok(poll(&mut fds, Some(&timeout))? > 0)
}

/// Closes the descriptor, unless it has become another file, which is not ours to close.
impl Drop for Pidfd {
    fn drop(&mut self) {
        let own = self.is_own().unwrap_or_else(|| is_pidfd(self.fd()));
        match self.fd.take() {
            Some(fd) if !own => {
                let _ = fd.into_raw_fd();
            }
            fd => drop(fd),
        }
    }
}

fn file_of(fd: &OwnedFd) -> Option<File> {
    let stat = rustix::fs::fstat(fd).ok()?;
    Some(File(stat.st_dev, stat.st_ino))
}

/// Whether pidfds are files of a file system of theirs: `PID_FS_MAGIC` of `linux/magic.h`.
fn has_inodes(pidfd: &OwnedFd) -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| rustix::fs::fstatfs(pidfd).is_ok_and(|it| it.f_type == 0x5049_4446))
}

/// Whether the number is that of a pidfd, whosever.
fn is_pidfd(fd: &OwnedFd) -> bool {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
    link.is_ok_and(|link| link.as_bytes() == b"anon_inode:[pidfd]")
}

pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
