//! Files that belong to this user, by owner.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use procref_winsys::security::{self, Kind};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OPEN_REPARSE_POINT;

/// The unit of a path that is not valid Unicode.
pub(super) type Unit = u16;

pub(super) fn units_of(path: &Path) -> Vec<Unit> {
    path.as_os_str().encode_wide().collect()
}

pub(super) fn path_of(units: Vec<Unit>) -> PathBuf {
    OsString::from_wide(&units).into()
}

/// Checks only that the directory exists. Windows shows whether a file can be written only when it is written.
pub(super) fn check_writable(dir: &Path) -> io::Result<()> {
    fs::metadata(dir).map(drop)
}

/// Creates a file for writing. Does not write to an existing file or link.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a file for reading.
pub(super) fn open_ours(path: &Path) -> Result<Option<File>, String> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    check_ours(&file)?;
    Ok(Some(file))
}

/// Returns the size of a file that belongs to this user.
pub(super) fn size_of_ours(path: &Path) -> Result<u64, String> {
    let file = open_ours(path)?.ok_or("it has just been removed")?;
    Ok(file.metadata().map_err(|error| error.to_string())?.len())
}

fn check_ours(file: &File) -> Result<(), String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    match security::is_ours(file, Kind::File) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it belongs to another user".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns a constant: creation times are calendar times, so they differ from boot to boot anyway.
pub(super) fn boot_id() -> &'static str {
    "any"
}
