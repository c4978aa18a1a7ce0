//! This process becomes the client.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::acquire::AcquiredServices;

/// Executes the client. Returns only if that fails.
///
/// The kernel counts references by process, and `exec` keeps them. The client therefore holds the services,
/// and releases them when it exits, even if it is killed.
pub(super) fn run(
    command: &mut Command,
    services: AcquiredServices,
) -> Result<ExitCode, (io::Error, AcquiredServices)> {
    Err((command.exec(), services))
}
