//! Checks by owner and mode that files belong to this user and are closed to others.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, Mode, OFlags};

use crate::file::check_private;
use crate::kernel::counted::sys;

/// The unit of a path that is not valid Unicode.
pub(super) type Unit = u8;

pub(super) fn units_of(path: &Path) -> &[Unit] {
    path.as_os_str().as_bytes()
}

pub(super) fn path_of(units: Vec<Unit>) -> PathBuf {
    OsString::from_vec(units).into()
}

pub(super) fn check_writable(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Creates a file for writing. `O_EXCL` keeps it from writing to an existing file or link.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

/// Opens a file for reading.
pub(super) fn open_ours(path: &Path) -> Result<Option<File>, String> {
    // `O_NONBLOCK`, because opening a FIFO with this name would block otherwise.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => return Err("it is a symbolic link".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    check_private(&rustix::fs::fstat(&file).map_err(|error| error.to_string())?)?;
    Ok(Some(file))
}

/// Returns the size of a file, if it belongs to this user and is closed to others.
pub(super) fn size_of_ours(path: &Path) -> Result<u64, String> {
    let stat = rustix::fs::lstat(path).map_err(|error| error.to_string())?;
    check_private(&stat)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(u64::MAX))
}

/// Returns the id of this boot. It is empty if it cannot be read.
pub(super) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return boot;
    }
    // A failure is not kept: the process may only have had too many open files.
    let Ok(id) = sys::boot_id() else {
        return "";
    };
    BOOT.get_or_init(|| String::from_utf8_lossy(&id).into_owned())
}
