//! By becoming it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::acquire::Held;

/// The kernel's count is by process, and `exec` keeps it; so the reference is the client's from then on, and
/// ends with it, however it ends. Returns only if that cannot be.
pub(super) fn run(command: &mut Command, held: Held) -> Result<ExitCode, (io::Error, Held)> {
    Err((command.exec(), held))
}
