//! This process runs the program as a child, because Windows has no `exec`.
//!
//! This process is the service's process while the program runs. Both are in the service's job, so neither outlives the
//! job. The references to the dependencies end with this process.

use std::io::{self, Write as _};
use std::process::{self, Command, ExitCode};
use std::thread;
use std::time::Duration;

use procref::ServiceHandle;
use procref::process::{Process, StopEvent};
use procref_config::prestart::protocol::STARTED;

use crate::error::{Error, Result};
use crate::exit::FAILED;
use crate::output;

/// The user of this process. Services have no other user on Windows.
pub(super) struct OtherUser;

/// Returns the user of this process, because `user` has no effect on Windows.
pub(super) fn switch_user(_: &str, _: Option<&str>) -> Result<OtherUser> {
    Ok(OtherUser)
}

impl OtherUser {
    /// Does nothing.
    pub(super) fn apply(&self, _: &mut Command, _: &[String]) {}
}

/// Runs the program, and exits with its exit code. Returns only if the program cannot be started.
pub(super) fn become_program(
    program: &mut Command,
    joined: Vec<ServiceHandle>,
) -> io::Result<ExitCode> {
    // The event is created only now. A process with this event gets stop requests, and the work before the program
    // would ignore them.
    let stop_event = StopEvent::create().map_err(io::Error::other)?;
    let mut child = program.spawn()?;
    let _ = writeln!(io::stderr(), "{STARTED}");
    let process = Process::open(child.id());
    thread::spawn(move || {
        // A program that cannot get stop requests is killed at once, as it would be without this process. The process
        // that requests the stop enforces the time limit.
        let forwarded = stop_event
            .wait(Duration::MAX)
            .and_then(|_| process?.stop(Duration::MAX));
        if let Err(error) = forwarded {
            output::error(&Error::from(error));
        }
    });
    let code = child.wait().ok().and_then(|status| status.code());
    drop(joined);
    process::exit(code.unwrap_or(i32::from(FAILED)))
}

/// Does nothing. On Windows, a bound socket does not refuse connections, so it would be treated as the service.
///
/// Another process can take the port until the program listens, and then the program reports that.
pub(super) fn reserve(_: u16) {}
