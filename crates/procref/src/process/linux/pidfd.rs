//! A pidfd in a host program that may close descriptors it does not know.
//!
//! Some programs close all descriptors that they do not know, and open others, which get the same numbers.
//! The number of a pidfd may then be closed, or belong to another file or to the pidfd of another process. So
//! procref checks the results of a descriptor. It confirms an exit by a new lookup, and sends a signal only
//! through a descriptor that is known to be the right one.

use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use procref_supervisor::process::{open_pidfd, poll_exit};
use rustix::io::Errno;
use rustix::process::Signal;

/// A pidfd, and the file behind it.
#[derive(Debug)]
pub(super) struct Pidfd {
    /// `None` only in `drop`.
    fd: Option<OwnedFd>,
    /// `None` on kernels where all pidfds have the same inode.
    file: Option<File>,
}

/// Device and inode of a file. Since Linux 6.9 each process has its own inode among pidfds, and the kernel does not
/// reuse it before the machine reboots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File(u64, u64);

impl Pidfd {
    /// Opens a pidfd as [`open_pidfd`] does.
    pub(super) fn open(pid: u32) -> Result<Option<Self>, Errno> {
        Ok(open_pidfd(pid)?.map(|fd| Self {
            file: file_of(&fd).filter(|_| has_inodes(&fd)),
            fd: Some(fd),
        }))
    }

    fn fd(&self) -> &OwnedFd {
        self.fd.as_ref().expect("taken only in drop")
    }

    /// Returns `true` if the number still refers to this pidfd, and `None` if this kernel does not show it.
    pub(super) fn is_own(&self) -> Option<bool> {
        self.file.map(|file| file_of(self.fd()) == Some(file))
    }

    /// Waits until the process has exited, and returns `true` if it has. Returns `None` if the descriptor may
    /// belong to another file.
    ///
    /// The descriptor is checked after the poll, because it could be closed between an earlier check and the
    /// poll. On kernels that do not distinguish pidfds, only an exit is checked again. A lookup for each poll
    /// would make every join more than twice as slow.
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

    /// Returns a pidfd whose number has become that of another file.
    #[cfg(test)]
    pub(super) fn with_file(mut self, other: OwnedFd) -> Self {
        self.fd = Some(other);
        self
    }

    /// Returns a pidfd as on a kernel where all pidfds have the same inode.
    #[cfg(test)]
    pub(super) fn without_inode(mut self) -> Self {
        self.file = None;
        self
    }
}

/// Closes the descriptor, unless its number belongs to another file of the host program.
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

/// Returns `true` if pidfds are files of their own file system: `PID_FS_MAGIC` in `linux/magic.h`.
fn has_inodes(pidfd: &OwnedFd) -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| rustix::fs::fstatfs(pidfd).is_ok_and(|it| it.f_type == 0x5049_4446))
}

/// Returns `true` if the number is that of a pidfd, of any process.
fn is_pidfd(fd: &OwnedFd) -> bool {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
    link.is_ok_and(|link| link.as_bytes() == b"anon_inode:[pidfd]")
}
