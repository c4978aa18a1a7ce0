//! Directories: made for this user alone, told apart, and watched.

#![expect(unsafe_code, reason = "the standard library has none of this")]

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;

use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, FILE_NOTIFY_CHANGE_FILE_NAME,
    FindCloseChangeNotification, FindFirstChangeNotificationW, GetFileInformationByHandle,
};
use windows_sys::Win32::System::Threading::{INFINITE, WaitForSingleObject};

use super::security::{Kind, owner_only};

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// One that is there already is no error; whose it is, is looked at later.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    let (name, security) = (wide(dir), owner_only(Kind::File)?);
    // SAFETY: `name` ends with a NUL, and `security` is whole.
    if unsafe { CreateDirectoryW(name.as_ptr(), &raw const security) } != 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32) => Ok(()),
        error => Err(error),
    }
}

/// The volume's and the file's numbers, which together tell it from every other that is there.
pub(crate) fn identity(dir: &File) -> io::Result<(u64, u64)> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the place is this function's own.
    if unsafe { GetFileInformationByHandle(dir.as_raw_handle(), &raw mut information) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let file = u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow);
    Ok((information.dwVolumeSerialNumber.into(), file))
}

/// Files that come, go, or change their names, from when this is made.
pub(crate) struct Changes(HANDLE);

// SAFETY: the handle may be waited for on any thread, and is closed once.
unsafe impl Send for Changes {}
// SAFETY: as above.
unsafe impl Sync for Changes {}

impl Changes {
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let name = wide(dir);
        // SAFETY: `name` ends with a NUL.
        let handle =
            unsafe { FindFirstChangeNotificationW(name.as_ptr(), 0, FILE_NOTIFY_CHANGE_FILE_NAME) };
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(Self(handle)),
        }
    }

    /// Waits for the first.
    pub(crate) fn wait(&self) -> io::Result<()> {
        // SAFETY: the handle is open, and may be waited for.
        match unsafe { WaitForSingleObject(self.0, INFINITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // SAFETY: it was opened by `of`, and is closed once.
        unsafe { FindCloseChangeNotification(self.0) };
    }
}
