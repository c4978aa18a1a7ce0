//! Log files, checked by descriptor, owner and mode.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::Forbidden;

/// Opens the log for a service to append to, and creates it if it is missing.
pub(super) fn open_for_service(path: &Path, forbidden: Forbidden) -> io::Result<(File, u64)> {
    open_checked(path, OFlags::CREATE, forbidden)
}

/// Opens the log for truncation.
pub(super) fn open_to_empty(path: &Path, forbidden: Forbidden) -> io::Result<(File, u64)> {
    open_checked(path, OFlags::empty(), forbidden)
}

/// Returns `true` if the path is a regular file of this user, is closed to others, and is within the limit.
/// There is nothing to do in this case.
pub(super) fn is_short(path: &Path, limit: u64, forbidden: Forbidden) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & forbidden as RawMode == 0
            && u64::try_from(stat.st_size).is_ok_and(|size| size <= limit)
    })
}

/// Tries to lock the log. Returns `false` if another process has the lock.
pub(super) fn try_lock(log: &File) -> io::Result<bool> {
    match rustix::fs::flock(log, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Creates a file for writing. `O_EXCL` ensures that no existing file or link is written to.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Opens the file and returns it with its size, if it is a regular file of this user and closed to others.
///
/// The file is opened first and checked through the descriptor, because the file at a path can be exchanged
/// between two checks.
fn open_checked(path: &Path, flags: OFlags, forbidden: Forbidden) -> io::Result<(File, u64)> {
    // `O_NONBLOCK`, because the path could be a device, and opening a device could block.
    let common = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW;
    let quiet = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, common | quiet | flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|error| match error {
        Errno::LOOP => io::Error::other("it is a symbolic link (name its target, or remove it)"),
        error => error.into(),
    })?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    let uid = rustix::process::geteuid().as_raw();
    if stat.st_uid != uid {
        return Err(io::Error::other(format!(
            "it belongs to uid {}, but this process runs as uid {uid}",
            stat.st_uid
        )));
    }
    if stat.st_mode & forbidden as RawMode != 0 {
        return Err(io::Error::other(format!(
            "other users have access (mode {:04o}; run `chmod 600` on it)",
            stat.st_mode & 0o7777
        )));
    }
    // The service inherits the open file description, and must not inherit `O_NONBLOCK`.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok((file.into(), u64::try_from(stat.st_size).unwrap_or(0)))
}
