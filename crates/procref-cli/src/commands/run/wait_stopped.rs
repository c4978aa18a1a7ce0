//! `run --wait-stopped`: waits until the services have stopped if this process was their last client.

use std::time::Duration;

use procref::{Error as ServiceError, SharedService, State};
use procref_config::resolved::ResolvedServices;
use procref_config::spec::ServiceSpec;

use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::helper;
use crate::output;
use crate::text::shown;
use crate::watch;

/// The time after the grace period in which the killed processes and the other processes of the service must
/// exit.
const MARGIN: Duration = Duration::from_secs(10);

/// Waits until the services and their dependencies have stopped, if no client holds them.
///
/// Errors are printed and do not change the exit code, which is the client's.
pub(super) fn wait(globals: &Globals, resolved: &ResolvedServices) {
    // A dependent comes first, because it holds its dependencies until it has stopped.
    for spec in resolved.all().rev() {
        if let Err(error) = wait_for(globals, spec) {
            output::error(&error);
        }
    }
}

fn wait_for(globals: &Globals, spec: &ServiceSpec) -> Result<()> {
    let service = helper::build(spec)?;
    let status = service.status()?;
    if status.clients() > 0 || status.state() == State::Absent {
        return Ok(());
    }
    let grace = status.grace().unwrap_or_default();
    let limit = grace.saturating_add(MARGIN);
    if status.is_pinned() && !watch::is_first_process() {
        let name = shown(service.name());
        output::note(globals, &format!("`{name}` is pinned, so it keeps running"));
        return Ok(());
    }
    if status.is_pinned() || !status.linger().is_zero() {
        // The service would keep running without clients. If another client joins first, the client keeps it.
        return match stop(spec, limit) {
            Err(Error::Service(ServiceError::Held { .. })) => Ok(()),
            stopped => stopped,
        };
    }
    match service.wait_stopped_blocking(limit)? {
        true => Ok(()),
        false => Err(Error::TooLate {
            service: shown(service.name()),
            what: "stopped",
            limit,
        }),
    }
}

/// Stops a service that no client holds. `limit` also bounds the wait for other processes that start or stop it.
fn stop(spec: &ServiceSpec, limit: Duration) -> Result<()> {
    let mut spec = spec.clone();
    spec.wait_timeout = Some(limit);
    let service: SharedService = helper::build(&spec)?;
    service.stop_blocking()?;
    Ok(())
}
