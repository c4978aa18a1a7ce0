//! As a child: there is no `exec`.
//!
//! The reference stays this process's. Who ends this process alone leaves the client without one, and the
//! service may be stopped under it. Taking the client along, by a job that ends with this process, was
//! rejected: it would take a client from its user who has done nothing to it.

use std::io;
use std::process::{self, Command, ExitCode};

use crate::acquire::Held;
use crate::output;

/// The end of this process, with the client's exit code: all 32 bits of it.
pub(super) fn run(command: &mut Command, held: Held) -> Result<ExitCode, (io::Error, Held)> {
    let mut child = match start(command) {
        Ok(child) => child,
        Err(error) => return Err((error, held)),
    };
    let ended = child.wait();
    if let Err(error) = held.release() {
        output::error(&error);
    }
    let code = ended.ok().and_then(|status| status.code());
    process::exit(code.unwrap_or(i32::from(crate::error::CLIENT_NOT_RUN)))
}

fn start(command: &mut Command) -> io::Result<process::Child> {
    // The console tells the client of Ctrl-C as well, and what becomes of it is the client's to say. Ignoring it
    // altogether would be inherited; a handler that does nothing is not.
    ctrlc::set_handler(|| {}).map_err(io::Error::other)?;
    command.spawn()
}
