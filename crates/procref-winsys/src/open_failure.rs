//! The reasons why a named object or a lock file cannot be opened.

use std::io;
use std::os::windows::io::{FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_FILE_NOT_FOUND, ERROR_INVALID_HANDLE, HANDLE};

use crate::security::{Kind, is_ours};

/// The reason why an object could not be opened.
#[derive(Debug)]
pub enum OpenFailure {
    /// The object exists, but belongs to another user or is of another kind.
    Foreign(&'static str),
    /// Windows returned an error.
    Failed(io::Error),
}

impl From<io::Error> for OpenFailure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes ownership of a handle that a call has returned, and checks that the current user owns the object.
///
/// `last` is the error after the call. Returns `None` if no object has the name.
pub(crate) fn checked(
    handle: HANDLE,
    last: &io::Error,
) -> Result<Option<OwnedHandle>, OpenFailure> {
    if handle.is_null() {
        return match last.raw_os_error() {
            Some(code) if code == ERROR_FILE_NOT_FOUND as i32 => Ok(None),
            Some(code) if code == ERROR_INVALID_HANDLE as i32 => {
                Err(OpenFailure::Foreign("it is an object of another kind"))
            }
            code => {
                let error = io::Error::from_raw_os_error(code.unwrap_or(0));
                Err(OpenFailure::Failed(error))
            }
        };
    }
    // SAFETY: the call returned this handle to this function's caller, which keeps no copy of it.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    match is_ours(&handle, Kind::Object) {
        Ok(true) => Ok(Some(handle)),
        Ok(false) => Err(OpenFailure::Foreign("it belongs to another user")),
        Err(error) => Err(OpenFailure::Failed(error)),
    }
}

/// Like [`checked`], for a call that creates the object if it is missing.
pub(crate) fn created(handle: HANDLE, last: &io::Error) -> Result<OwnedHandle, OpenFailure> {
    checked(handle, last)?.ok_or_else(|| {
        OpenFailure::Failed(io::Error::other(
            "the object was created but does not exist",
        ))
    })
}
