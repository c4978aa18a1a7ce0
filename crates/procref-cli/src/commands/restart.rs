use std::process::ExitCode;

use procref::State;
use serde::Serialize;

use crate::acquire::AcquiredServices;
use crate::args::RestartArgs;
use crate::describe;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::json::InstanceJson;
use crate::output;
use crate::resolve::{self, NamedService};
use crate::service_flags::ServiceFlags;
use crate::text::shown;

use super::stop;

/// The JSON about several services.
#[derive(Serialize)]
struct RestartJson {
    services: Vec<InstanceJson>,
}

/// A service that is being restarted.
struct Restarted<'a> {
    named: NamedService<'a>,
    was_pinned: bool,
    result: Result<()>,
    /// The new instance. It is held until all services have been started.
    started: Option<AcquiredServices>,
}

/// Stops the services, and starts them again for the clients that hold them.
///
/// All services are stopped before the first one is started, because a dependent holds its dependencies. All are started
/// before the first one is released. Otherwise a dependency would stop before its dependent starts, and start a second
/// time. If a stop fails, the services that were stopped are started anyway.
///
/// An unknown name is an error before anything is stopped: a part of the services with new settings and a part with old
/// ones may not work together.
pub(crate) fn run(globals: &Globals, args: &RestartArgs) -> Result<ExitCode> {
    let (targets, unknown) = stop::named(globals, &args.names, &args.which)?;
    if let Some((_, error)) = unknown.into_iter().next() {
        return Err(error);
    }
    let mut restarted = Vec::new();
    for named in targets {
        let was_pinned = check(&named)?;
        restarted.push(Restarted {
            named,
            was_pinned,
            result: Ok(()),
            started: None,
        });
    }
    let mut stopped = 0;
    for it in &mut restarted {
        if let Err(error) = stop::stop(globals, args.force, &it.named) {
            it.result = Err(error);
            break;
        }
        stopped += 1;
    }
    for it in restarted[..stopped].iter_mut().rev() {
        match start(globals, args, it) {
            Ok(started) => it.started = Some(started),
            Err(error) => it.result = Err(error),
        }
    }
    let mut services = Vec::new();
    let mut failed = None;
    for it in restarted {
        let mut result = it.result;
        if let Some(started) = it.started {
            services.push(InstanceJson::acquired(&started));
            result = result.and(started.release());
        }
        if let Err(error) = result {
            if let Some(earlier) = failed.replace(error) {
                output::error(&earlier);
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if args.json.json {
        match (args.names.len(), services.pop()) {
            (1, Some(only)) => output::print_json(&only)?,
            (_, last) => {
                services.extend(last);
                output::print_json(&RestartJson { services })?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if the service is not running, or cannot be started again. Returns `true` if it is pinned.
fn check(named: &NamedService<'_>) -> Result<bool> {
    let status = named.required()?;
    if status.state() == State::Absent {
        return Err(named.to_start());
    }
    if named.spec.start.is_none() {
        let name = shown(named.service.name());
        return Err(Error::Failed(format!(
            "service `{name}` is in no file, so procref cannot start it again (`procref stop {name} --force` stops it, \
             and its next client starts it)"
        )));
    }
    Ok(status.is_pinned())
}

/// Starts a stopped service, and holds it. If no client holds the service, it lives as long as its pin or its linger keeps
/// it.
fn start(
    globals: &Globals,
    args: &RestartArgs,
    stopped: &Restarted<'_>,
) -> Result<AcquiredServices> {
    let name = stopped.named.service.name();
    let mut flags = ServiceFlags::default();
    flags
        .fingerprint
        .clone_from(&stopped.named.spec.fingerprint);
    let resolved = resolve::services(globals, &[name.to_owned()], &flags)?;
    let acquired = AcquiredServices::new(globals, &resolved)?;
    let (_, handle) = acquired.service();
    if stopped.was_pinned {
        handle.pin()?;
    }
    let line = describe::instance(handle.info());
    if !args.json.json {
        output::note(globals, &format!("restarted `{}`: {line}", shown(name)));
    }
    Ok(acquired)
}
