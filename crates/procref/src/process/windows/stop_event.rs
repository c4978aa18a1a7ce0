//! The event that requests a process to exit.

use std::io;
use std::time::Duration;

use procref_winsys::OpenFailure;
use procref_winsys::event::{self, Event};

use crate::error::{Error, Result};

/// The event that [`terminate`](super::super::terminate) sets to request that this process exit.
///
/// A service that cleans up before it exits creates its stop event when it starts, and waits for it on a
/// separate thread. A service without a stop event is terminated immediately when it is stopped. Programs in
/// other languages create the event with `CreateEventW`, under the [documented name](super::super#windows).
///
/// The event exists as long as this value. An event that is set stays set.
///
/// ```no_run
/// use std::time::Duration;
/// use procref::process::StopEvent;
///
/// let stop = StopEvent::create()?;
/// std::thread::spawn(move || {
///     let _ = stop.wait(Duration::MAX);
///     // ... save what must not be lost ...
///     std::process::exit(0);
/// });
/// # Ok::<(), procref::Error>(())
/// ```
#[derive(Debug)]
pub struct StopEvent(Event);

impl StopEvent {
    /// Creates the stop event of this process. Only this user can set it.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: Windows refused the call, or an object of this name exists that belongs to another
    /// user or is not an event.
    pub fn create() -> Result<Self> {
        create()
            .map(Self)
            .map_err(failed("create the stop event of"))
    }

    /// Waits until a stop request arrives, for at most `timeout`. Returns `true` if one arrived.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: Windows refused to wait.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        self.0
            .wait_timeout(timeout)
            .map_err(failed("wait for the stop event of"))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Process {
        operation,
        pid: std::process::id(),
        source,
    }
}

fn create() -> io::Result<Event> {
    Event::create(&name_of(std::process::id())).map_err(|failure| match failure {
        OpenFailure::Foreign(reason) => io::Error::new(io::ErrorKind::PermissionDenied, reason),
        OpenFailure::Failed(error) => error,
    })
}

/// The name of a process's stop event. Services create it: see [`process`](super::super).
fn name_of(pid: u32) -> String {
    format!(r"Local\procref-stop-{pid}")
}

/// Sets the stop event of a process. Returns `false` if it has none.
pub(super) fn set_stop_event(pid: u32) -> io::Result<bool> {
    event::set_named(&name_of(pid))
}
