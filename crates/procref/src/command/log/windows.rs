//! Log files by handle and owner.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    FILE_APPEND_DATA, FILE_FLAG_OPEN_REPARSE_POINT, FILE_GENERIC_READ, SYNCHRONIZE,
};

use super::Forbidden;
use crate::process::security::{self, Kind};

/// For a service to append to; created where it is missing.
///
/// FILE_APPEND_DATA without FILE_WRITE_DATA: whatever is written goes to the end, wherever that is by then.
pub(super) fn open_for_service(path: &Path, _: Forbidden) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .access_mode(FILE_APPEND_DATA | FILE_GENERIC_READ | SYNCHRONIZE);
    open_checked(path, options)
}

/// For making room in it.
pub(super) fn open_to_empty(path: &Path, _: Forbidden) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    open_checked(path, options)
}

/// Its permissions are those of the directory it is in: what others may do there is not looked at.
fn open_checked(path: &Path, mut options: OpenOptions) -> io::Result<(File, u64)> {
    let file = options
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_symlink() {
        return Err(io::Error::other(
            "it is a symbolic link; name the file that it leads to, or remove it",
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

/// Never: to look whose it is, it has to be opened anyway.
pub(super) fn is_short(_: &Path, _: u64, _: Forbidden) -> bool {
    false
}

/// False: somebody else has it.
pub(super) fn try_lock(log: &File) -> io::Result<bool> {
    crate::kernel::try_lock_file(log)
}

/// For writing. Nothing that is there already, link or file, is written to.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
