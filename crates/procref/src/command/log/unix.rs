//! Log files by descriptor, owner and mode.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::Forbidden;

/// For a service to append to; created where it is missing.
pub(super) fn open_for_service(path: &Path, forbidden: Forbidden) -> io::Result<(File, u64)> {
    open_checked(path, OFlags::CREATE, forbidden)
}

/// For making room in it.
pub(super) fn open_to_empty(path: &Path, forbidden: Forbidden) -> io::Result<(File, u64)> {
    open_checked(path, OFlags::empty(), forbidden)
}

/// Whether there is surely nothing to do: by its path it is a regular file, ours, closed to others, and no
/// longer than that.
pub(super) fn is_short(path: &Path, limit: u64, forbidden: Forbidden) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
            && stat.st_mode & forbidden as u32 == 0
            && u64::try_from(stat.st_size).is_ok_and(|size| size <= limit)
    })
}

/// False: somebody else has it.
pub(super) fn try_lock(log: &File) -> io::Result<bool> {
    match rustix::fs::flock(log, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// For writing. Nothing that is there already, link or file, is written to: O_EXCL.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// The file and its size, if it is a regular one, ours, and closed to others.
///
/// It is opened first and looked at through the descriptor: what a path shows may be exchanged
/// between two looks.
fn open_checked(path: &Path, flags: OFlags, forbidden: Forbidden) -> io::Result<(File, u64)> {
    // NONBLOCK: a device in its place must not hold anybody up.
    let common = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW;
    let quiet = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, common | quiet | flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|error| match error {
        Errno::LOOP => {
            io::Error::other("it is a symbolic link; name the file that it leads to, or remove it")
        }
        error => error.into(),
    })?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    let uid = rustix::process::geteuid().as_raw();
    if stat.st_uid != uid {
        return Err(io::Error::other(format!(
            "it belongs to uid {}, and this process is uid {uid}",
            stat.st_uid
        )));
    }
    if stat.st_mode & forbidden as u32 != 0 {
        return Err(io::Error::other(format!(
            "others can get at it (mode {:04o}); run `chmod 600` on it",
            stat.st_mode & 0o7777
        )));
    }
    // The service inherits the open file, and is not to inherit this.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok((file.into(), u64::try_from(stat.st_size).unwrap_or(0)))
}
