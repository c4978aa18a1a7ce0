//! The client runs as a child, because Windows has no `exec`.
//!
//! This process keeps the reference. If a user kills only this process, the client has no reference, and the
//! service may stop while the client uses it. A job that kills the client together with this process was
//! rejected, because the user may want to kill only this process.

use std::io;
use std::process::{self, Command, ExitCode};

use crate::acquire::AcquiredServices;
use crate::exit::CLIENT_NOT_RUN;
use crate::output;

/// Runs the client, and exits with all 32 bits of the client's exit code.
pub(super) fn run(
    command: &mut Command,
    services: AcquiredServices,
) -> Result<ExitCode, (io::Error, AcquiredServices)> {
    let mut child = match start(command) {
        Ok(child) => child,
        Err(error) => return Err((error, services)),
    };
    let exited = child.wait();
    if let Err(error) = services.release() {
        output::error(&error);
    }
    let code = exited.ok().and_then(|status| status.code());
    process::exit(code.unwrap_or(i32::from(CLIENT_NOT_RUN)))
}

fn start(command: &mut Command) -> io::Result<process::Child> {
    // The console also sends Ctrl-C to the client, which decides how to react. If this process ignored
    // Ctrl-C, the client would inherit that. A handler that does nothing is not inherited.
    ctrlc::set_handler(|| {}).map_err(io::Error::other)?;
    command.spawn()
}
