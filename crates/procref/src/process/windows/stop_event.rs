//! The event by which a process is asked to stop.

#![expect(unsafe_code, reason = "the standard library has no events")]

use std::io;
use std::os::windows::io::{FromRawHandle as _, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_ALREADY_EXISTS;
use windows_sys::Win32::System::Threading::CreateEventW;

use super::security::{Kind, is_ours, owner_only};
use super::{stop_event, wait_for, wide};
use crate::error::{Error, Result};

/// What a program on Windows is asked to stop by: the event that [`terminate`](super::super::terminate) sets.
///
/// A service that wants to tidy up before it ends makes one when it starts, and waits for it on a thread of
/// its own. A process without one is ended at once when its service is stopped. Other languages call
/// `CreateEventW` with the [name](super::super#platforms).
///
/// It is there as long as this value, and once set it stays so.
///
/// ```no_run
/// use std::time::Duration;
/// use procref::process::StopEvent;
///
/// let asked = StopEvent::create()?;
/// std::thread::spawn(move || {
///     let _ = asked.wait(Duration::MAX);
///     // ... write down what must not be lost ...
///     std::process::exit(0);
/// });
/// # Ok::<(), procref::Error>(())
/// ```
#[derive(Debug)]
pub struct StopEvent(OwnedHandle);

impl StopEvent {
    /// This process's own. Nobody but this user can set it.
    ///
    /// # Errors
    ///
    /// Windows refuses it, or another user has an object of that name.
    pub fn create() -> Result<Self> {
        create().map(Self).map_err(failed("make the stop event of"))
    }

    /// Waits until this process is asked to stop, at most `timeout`; tells whether it is.
    ///
    /// # Errors
    ///
    /// Windows refused to wait.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        wait_for(&self.0, timeout).map_err(failed("wait for the stop event of"))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Process {
        operation,
        pid: std::process::id(),
        source,
    }
}

fn create() -> io::Result<OwnedHandle> {
    let name = wide(&stop_event(std::process::id()));
    let security = owner_only(Kind::Object)?;
    // SAFETY: `name` ends with a NUL, and `security` is whole.
    let handle = unsafe { CreateEventW(&raw const security, 1, 0, name.as_ptr()) };
    let error = io::Error::last_os_error();
    if handle.is_null() {
        return Err(error);
    }
    // SAFETY: it was just opened, and is closed by nobody else.
    let event = unsafe { OwnedHandle::from_raw_handle(handle) };
    let existed = error.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32);
    if existed && !is_ours(&event, Kind::Object)? {
        let reason = "another user has an object of its name";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(event)
}
