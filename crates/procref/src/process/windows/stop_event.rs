//! The event by which a process is asked to stop.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::time::Duration;

use super::security::{Kind, descriptor, is_ours};
use super::{create_event, set_event, wait_for};
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
    let (event, existed) = create_event(&name_of(std::process::id()), descriptor(Kind::Object)?)?;
    if existed && !is_ours(&event, Kind::Object)? {
        let reason = "another user has an object of its name";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(event)
}

/// The event that a service may create, and wait for, to be asked to stop. See [`process`](super::super).
fn name_of(pid: u32) -> String {
    format!(r"Local\procref-stop-{pid}")
}

/// False: it has none.
pub(super) fn set_stop_event(pid: u32) -> io::Result<bool> {
    set_event(&name_of(pid))
}
