use procref::{Ready, ServiceCommand};

use super::protocol::STARTED;

/// Returns `false`, because no server refuses a user of Windows by this name.
pub(super) fn is_root() -> bool {
    false
}

/// Returns the readiness probe of a service that is ready when its program runs.
pub(crate) fn started() -> Ready {
    Ready::log(format!("^{STARTED}$"))
}

/// Applies [`started`] to a service without a `ready` setting.
pub(crate) fn started_by_default(command: ServiceCommand) -> ServiceCommand {
    command.ready(started())
}

/// Changes nothing: the helper keeps its command line, so the command line does not show whether the program runs.
pub(crate) fn ready_after_exec(command: ServiceCommand) -> ServiceCommand {
    command
}
