//! System calls of macOS on state files and sockets.

#![expect(
    unsafe_code,
    reason = "locks of ranges, the peer of a socket, and the id of the boot have no safe wrapper"
)]

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::{Errno, FdFlags};
use rustix::net::RecvFlags;

use crate::process::macos::{list, state_file};

/// No flag: see [`close_on_exec`].
pub(super) const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// Makes a received descriptor close-on-exec.
pub(super) fn close_on_exec(fd: &OwnedFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?)
}

/// The place of the boot id.
pub(super) const BOOT_ID: &str = "kern.bootsessionuuid of sysctl(3)";

pub(super) fn boot_id() -> io::Result<Vec<u8>> {
    let mut id = vec![0_u8; 64];
    let mut length = id.len();
    // SAFETY: the name ends with a NUL. The call writes at most `length` bytes to `id`, and the number of bytes to `length`.
    // It writes no new value.
    let result = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            id.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // The length includes the NUL at the end.
    id.truncate(length.saturating_sub(1));
    Ok(id)
}

/// The byte of the state file that a keeper locks, and the byte that a starter marks. On macOS, locks of fcntl(2) and of
/// flock(2) exclude each other, so both must not cover the same bytes.
const KEEPER: i64 = 0;
const STARTER: i64 = 1;

/// Returns a description of an exclusive lock on one byte.
fn exclusive(byte: i64) -> libc::flock {
    libc::flock {
        l_start: byte,
        l_len: 1,
        l_pid: 0,
        l_type: libc::F_WRLCK,
        l_whence: libc::SEEK_SET as libc::c_short,
    }
}

/// Takes the lock that a keeper holds as long as it lives. Returns `false` if another process has it.
///
/// The lock belongs to this process. A forked child does not get it, and it ends if the process closes any descriptor
/// of the file. A keeper has only one.
pub(crate) fn lock(file: impl AsFd) -> io::Result<bool> {
    take(file, libc::F_SETLK)
}

/// Takes the same lock for this open file, not for the process. Returns `false` if a keeper or another open file has it.
pub(super) fn lock_open_file(file: impl AsFd) -> io::Result<bool> {
    take(file, libc::F_OFD_SETLK)
}

fn take(file: impl AsFd, command: i32) -> io::Result<bool> {
    let lock = exclusive(KEEPER);
    // SAFETY: the call reads `lock`, which outlives it.
    match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw const lock) } {
        -1 => match io::Error::last_os_error() {
            error if is_held(&error) => Ok(false),
            error => Err(error),
        },
        _ => Ok(true),
    }
}

fn is_held(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AGAIN | Errno::ACCESS))
}

/// Releases the lock and the mark of this open file.
pub(super) fn unlock_open_file(file: &File) {
    for byte in [KEEPER, STARTER] {
        let mut lock = exclusive(byte);
        lock.l_type = libc::F_UNLCK;
        // SAFETY: the call reads `lock`, which outlives it.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    }
}

/// Returns the pid of the keeper that has the lock. It is 0 if an open file has the lock, which belongs to no process.
pub(crate) fn lock_holder(file: impl AsFd) -> io::Result<Option<u32>> {
    let mut lock = exclusive(KEEPER);
    // SAFETY: the call reads `lock` and writes to it. Nothing else borrows it.
    if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETLK, &raw mut lock) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let is_held = lock.l_type != libc::F_UNLCK;
    // The kernel reports -1 for the lock of an open file.
    Ok(is_held.then(|| u32::try_from(lock.l_pid).unwrap_or(0)))
}

/// Marks the file as "a keeper is being started" until it is closed. Returns `false` if another process has marked it.
///
/// The mark belongs to the open file, so a forked child of this process can keep it. It is only a hint.
pub(crate) fn mark_starting(file: impl AsFd) -> bool {
    let lock = exclusive(STARTER);
    // SAFETY: the call reads `lock`, which outlives it.
    unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) != -1 }
}

/// Returns pid and user id of the process at the other end. A listening socket has the user id of the process that called
/// listen(2).
pub(crate) fn peer(socket: impl AsFd) -> io::Result<(u32, u32)> {
    let fd = socket.as_fd().as_raw_fd();
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the call writes one number to each of the two variables, which nothing else borrows.
    if unsafe { libc::getpeereid(fd, &raw mut uid, &raw mut gid) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let mut pid: libc::pid_t = 0;
    let mut length = size_of::<libc::pid_t>() as libc::socklen_t;
    // SAFETY: the call writes at most `length` bytes to `pid`, and the number of bytes to `length`.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_LOCAL,
            libc::LOCAL_PEERPID,
            (&raw mut pid).cast(),
            &raw mut length,
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((u32::try_from(pid).unwrap_or(0), uid)),
    }
}

/// Returns a path for a file that exists only for a moment, in the directory of this user's temporary files.
pub(crate) fn private_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = std::process::id();
    env::temp_dir().join(format!("procref-{own}-{number:x}"))
}

/// Returns a file with these bytes, which has no name any more. macOS has no files in memory that can be read like others.
pub(crate) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let path = private_path();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file: File = match options.open(&path) {
        // A process with the same pid was killed before it unlinked its file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&path)?;
            options.open(&path)?
        }
        file => file?,
    };
    fs::remove_file(&path)?;
    file.write_all(bytes)?;
    Ok(file.into())
}

/// Returns the paths of the state files of all keepers of this user, which are in their environments.
pub(crate) fn keepers_files() -> io::Result<Vec<PathBuf>> {
    let pids = list::own_user().ok_or(io::ErrorKind::PermissionDenied)?;
    Ok(pids.into_iter().filter_map(state_file).collect())
}

/// Does not watch the file.
pub(crate) fn watch_removal(_: &std::path::Path) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

// The numbers in Apple's headers: see `scripts/macos/abi.c`.
const _: () = {
    assert!(size_of::<libc::flock>() == 24);
    assert!(offset_of!(libc::flock, l_pid) == 16 && offset_of!(libc::flock, l_type) == 20);
    assert!(libc::F_OFD_SETLK == 90 && libc::F_WRLCK == 3);
    assert!(libc::SOL_LOCAL == 0 && libc::LOCAL_PEERPID == 2);
};
