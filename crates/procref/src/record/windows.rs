//! Files that are this user's, by owner.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use procref_winsys::security::{self, Kind};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OPEN_REPARSE_POINT;

/// What a path that is no text is written down in.
pub(super) type Unit = u16;

pub(super) fn units_of(path: &Path) -> Vec<Unit> {
    path.as_os_str().encode_wide().collect()
}

pub(super) fn path_of(units: Vec<Unit>) -> PathBuf {
    OsString::from_wide(&units).into()
}

/// Windows tells only by doing it.
pub(super) fn check_writable(dir: &Path) -> io::Result<()> {
    fs::metadata(dir).map(drop)
}

/// For writing. Nothing that is there already, link or file, is written to.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// For reading.
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

/// The size of a file that is this user's.
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

/// Creation times are of the calendar, and so differ from boot to boot.
pub(super) fn boot_id() -> &'static str {
    "any"
}
