//! Creates, identifies and watches directories.

use std::fs::File;
use std::io;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, FILE_NOTIFY_CHANGE_FILE_NAME,
    FindCloseChangeNotification, FindFirstChangeNotificationW, GetFileInformationByHandle,
};

use crate::call::{check, wide};
use crate::handle::wait_raw;
use crate::security::{Kind, owner_only};

/// Creates a directory that only the current user can open. Succeeds if the path exists, even if another user
/// owns it.
///
/// # Errors
///
/// Returns an error if the parent directory is missing, or if the call fails.
pub fn create(dir: &Path) -> io::Result<()> {
    let (name, security) = (wide(dir), owner_only(Kind::File)?);
    // SAFETY: `name` ends with a NUL. `security` is complete, and its descriptor is never freed.
    match check(unsafe { CreateDirectoryW(name.as_ptr(), &raw const security) }) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Returns the numbers of a file's volume and of the file. Together they differ from those of every other file that
/// exists.
///
/// # Errors
///
/// Returns the error of the system call.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: `file` keeps the handle open, and the call writes to a local variable.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) })?;
    let index = u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow);
    Ok((information.dwVolumeSerialNumber.into(), index))
}

/// A watch for files that appear in a directory, disappear from it, or change their names.
#[derive(Debug)]
pub struct DirectoryWatch(HANDLE);

// SAFETY: any thread may wait for the handle, and only `drop` closes it.
unsafe impl Send for DirectoryWatch {}
// SAFETY: several threads may wait for the handle at once, and only `drop` closes it.
unsafe impl Sync for DirectoryWatch {}

impl DirectoryWatch {
    /// Starts to watch a directory.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory does not exist, or if the call fails.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let name = wide(dir);
        // SAFETY: `name` ends with a NUL and outlives the call.
        let handle =
            unsafe { FindFirstChangeNotificationW(name.as_ptr(), 0, FILE_NOTIFY_CHANGE_FILE_NAME) };
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(Self(handle)),
        }
    }

    /// Waits indefinitely for the first change since the watch was started.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn wait(&self) -> io::Result<()> {
        wait_raw(self.0)
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        // SAFETY: `new` has opened the handle, and no other code closes it.
        unsafe { FindCloseChangeNotification(self.0) };
    }
}
