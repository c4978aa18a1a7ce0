//! Log files, checked by handle and owner.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;

use procref_winsys::lock_file::try_lock_until_closed;
use procref_winsys::security::{self, Kind};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_APPEND_DATA, FILE_FLAG_OPEN_REPARSE_POINT, FILE_GENERIC_READ, SYNCHRONIZE,
};

use super::Forbidden;

/// Opens the log for a service to append to, and creates it if it is missing.
///
/// With FILE_APPEND_DATA and without FILE_WRITE_DATA, all output goes to the current end of the file.
pub(super) fn open_for_service(path: &Path, _: Forbidden) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .access_mode(FILE_APPEND_DATA | FILE_GENERIC_READ | SYNCHRONIZE);
    open_checked(path, options)
}

/// Opens the log for truncation.
pub(super) fn open_to_empty(path: &Path, _: Forbidden) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    open_checked(path, options)
}

/// The permissions are those of its directory. Access of other users is not checked.
fn open_checked(path: &Path, mut options: OpenOptions) -> io::Result<(File, u64)> {
    let file = options
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_symlink() {
        return Err(io::Error::other(
            "it is a symbolic link (name its target, or remove it)",
        ));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if !security::is_ours(&file, Kind::File)? {
        return Err(io::Error::other("it belongs to another user"));
    }
    Ok((file, metadata.len()))
}

/// Always returns `false`, because the file must be opened anyway to check its owner.
pub(super) fn is_short(_: &Path, _: u64, _: Forbidden) -> bool {
    false
}

/// Tries to lock the log. Returns `false` if another process has the lock.
pub(super) fn try_lock(log: &File) -> io::Result<bool> {
    try_lock_until_closed(log)
}

/// Creates a file for writing. No existing file or link is written to.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
