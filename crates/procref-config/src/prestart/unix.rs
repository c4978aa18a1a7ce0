#[cfg(target_os = "linux")]
use std::fs;

use procref::{Ready, ServiceCommand};

use super::protocol::SUBCOMMAND;

/// Returns `true` if this process runs as root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the readiness probe of a service that is ready when its program was executed.
///
/// [`ready_after_exec`] already waits for that.
pub(crate) fn started() -> Ready {
    Ready::at_once()
}

/// Applies [`started`] to a service without a `ready` setting. The library does the same by default, with a warning.
pub(crate) fn started_by_default(command: ServiceCommand) -> ServiceCommand {
    command
}

/// Delays the readiness probe until the program was executed.
///
/// Before the execution, another process may answer the probe: a process that uses the data directory, or a
/// child of `init`.
pub(crate) fn ready_after_exec(command: ServiceCommand) -> ServiceCommand {
    command.ready_after(|service| is_executed(service.pid()))
}

#[cfg(target_os = "linux")]
fn is_executed(pid: u32) -> bool {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // The command line is empty for a moment during `exec`, and after the process has exited. The library notices that
    // exit.
    let second = command_line.split(|byte| *byte == 0).nth(1);
    !command_line.is_empty() && second != Some(SUBCOMMAND.as_bytes())
}

#[cfg(target_os = "macos")]
fn is_executed(pid: u32) -> bool {
    use procref_supervisor::process::{ARGUMENTS_ROOM, arguments};

    let mut room = vec![0; ARGUMENTS_ROOM];
    // Nothing is known of a process that has exited. The library notices that exit.
    arguments(pid, &mut room).is_some_and(|it| it.arguments().nth(1) != Some(SUBCOMMAND.as_bytes()))
}
