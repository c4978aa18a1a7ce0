//! System calls of Linux on state files and sockets.

#![expect(unsafe_code, reason = "locks of open files have no safe wrapper")]

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, inotify};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::file::read_proc;
use crate::process;

/// The flag with which received descriptors are close-on-exec.
pub(super) const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// Does nothing: see [`CLOSE_ON_EXEC`].
#[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
pub(super) fn close_on_exec(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}

/// The place of the boot id: [random(4)](https://man7.org/linux/man-pages/man4/random.4.html).
pub(super) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn boot_id() -> io::Result<Vec<u8>> {
    read_proc(BOOT_ID)
}

/// Takes the lock that a keeper holds as long as it lives. Returns `false` if another process has it.
///
/// The lock belongs to this process. A forked child does not get it, and it ends if the process closes any descriptor
/// of the file. A keeper has only one.
pub(crate) fn lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns a description of a lock of the whole file.
fn whole(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the same lock for this open file, not for the process. Returns `false` if a keeper or another open file has it.
pub(super) fn lock_open_file(file: impl AsFd) -> io::Result<bool> {
    let lock = whole(libc::F_WRLCK);
    // SAFETY: the call reads `lock`, which outlives it.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            error => Err(error),
        },
        _ => Ok(true),
    }
}

/// Releases the lock and the mark of this open file.
pub(super) fn unlock_open_file(file: &fs::File) {
    let lock = whole(libc::F_UNLCK);
    // SAFETY: the call reads `lock`, which outlives it.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}

/// Returns the pid of the keeper that has the lock. It is 0 if an open file has the lock, which belongs to no process.
pub(crate) fn lock_holder(file: impl AsFd) -> io::Result<Option<u32>> {
    let mut lock = whole(libc::F_WRLCK);
    // SAFETY: the call reads `lock` and writes to it. Nothing else borrows it.
    if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETLK, &raw mut lock) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let is_held = i32::from(lock.l_type) != libc::F_UNLCK;
    // The kernel reports -1 for the lock of an open file.
    Ok(is_held.then(|| u32::try_from(lock.l_pid).unwrap_or(0)))
}

/// Marks the file as "a keeper is being started" until it is closed. Returns `false` if another process has marked it.
///
/// A forked child of this process can keep the mark, so it is only a hint.
pub(crate) fn mark_starting(file: impl AsFd) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Returns pid and user id of the process at the other end. A listening socket has those of the process that called
/// listen(2).
pub(crate) fn peer(socket: impl AsFd) -> io::Result<(u32, u32)> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok((peer.pid.as_raw_nonzero().get() as u32, peer.uid.as_raw()))
}

/// Returns a file in memory with these bytes.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::memfd_create(c"procref", flags)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// Returns the paths of the files that keepers have open.
///
/// A keeper has its state file open as long as it lives. The name alone does not make a process a keeper, but a process of
/// this user can also write such a file.
pub(crate) fn keepers_files() -> io::Result<Vec<PathBuf>> {
    let all = fs::read_dir("/proc")?.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let keepers = pids.filter(|&pid| process::is_supervisor(pid));
    let open = keepers.flat_map(|pid| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
    });
    let files = open
        .flatten()
        .filter_map(|it| fs::read_link(it.path()).ok());
    Ok(files.collect())
}

/// Returns a descriptor that becomes readable when a link to this file is removed or moved.
pub(crate) fn watch_removal(path: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    // The last link is removed while the keeper has the file open, so this is no deletion yet.
    let events = inotify::WatchFlags::ATTRIB | inotify::WatchFlags::MOVE_SELF;
    inotify::add_watch(&watch, path, events | inotify::WatchFlags::DONT_FOLLOW)?;
    Ok(watch)
}
