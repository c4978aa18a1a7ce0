//! `run --wait-stopped`: waiting for the end of what this process was the last client of.

use std::time::Duration;

use procref::{Error as ServiceError, SharedService, State};

use crate::args::Globals;
use crate::error::{Error, Result};
use crate::output::{self, shown};
use crate::resolve::Plan;
use crate::spec::ServiceSpec;
use crate::watch;

/// How much longer than its grace a service may take: its processes that were killed have to be gone, and those
/// that it leaves.
const MARGIN: Duration = Duration::from_secs(10);

/// Waits until the service and what it depends on have stopped, if no client holds them. What goes wrong is
/// reported, and changes nothing: the exit code is the client's.
pub(super) fn wait(globals: &Globals, plan: &Plan) {
    // The service first: it holds what it depends on until it has stopped.
    let services = plan.dependencies.iter().chain([&plan.service]).rev();
    for spec in services {
        if let Err(error) = wait_for(globals, spec) {
            output::error(&error);
        }
    }
}

fn wait_for(globals: &Globals, spec: &ServiceSpec) -> Result<()> {
    let service = spec.build()?;
    let status = service.status()?;
    if status.clients() > 0 || status.state() == State::Absent {
        return Ok(());
    }
    let grace = status.grace().unwrap_or_default();
    let limit = grace.saturating_add(MARGIN);
    if status.is_pinned() && !watch::is_first_process() {
        let name = shown(service.name());
        output::note(globals, &format!("{name} is pinned, so it goes on"));
        return Ok(());
    }
    if status.is_pinned() || !status.linger().is_zero() {
        // It would go on without clients. That a client comes in between is all right: it has the service then.
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

/// Stops a service that no client holds, and waits for others that start or stop it for no longer than for its end.
fn stop(spec: &ServiceSpec, limit: Duration) -> Result<()> {
    let mut spec = spec.clone();
    spec.wait_timeout = Some(limit);
    let service: SharedService = spec.build()?;
    service.stop_blocking()?;
    Ok(())
}
