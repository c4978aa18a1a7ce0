use std::cmp::Reverse;
use std::process::{self, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use procref::State;
use procref_config::definition;
use serde::Serialize;

use crate::args::{StopArgs, Which};
use crate::config;
use crate::error::{Error, Failures, Result};
use crate::exit::NOT_RUNNING;
use crate::globals::Globals;
use crate::output;
use crate::resolve::NamedService;
use crate::runtime_dir::services;
use crate::signals::Unsuspended;
use crate::text::shown;

use super::status::holders;

/// The time before the command prints which process it waits for.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Serialize)]
struct StopJson<'a> {
    name: &'a str,
    stopped: bool,
}

/// The JSON about several services.
#[derive(Serialize)]
struct StopAllJson {
    services: Vec<StopOfManyJson>,
}

#[derive(Serialize)]
struct StopOfManyJson {
    name: String,
    stopped: bool,
    error: Option<String>,
}

pub(crate) fn run(globals: &Globals, args: &StopArgs) -> Result<ExitCode> {
    if let [name] = &args.names[..] {
        let named = NamedService::new(globals, name, &args.which)?;
        named.check_name()?;
        let stopped = stop_one(globals, args.force, args.json.json, &named)?;
        if args.json.json {
            output::print_json(&StopJson { name, stopped })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (targets, unknown) = match args.all {
        true => (of_project(globals)?, Vec::new()),
        false => named(globals, &args.names, &args.which)?,
    };
    let stop = |target: &NamedService<'_>| {
        let stopped = stop_one(globals, args.force, args.json.json, target);
        (target.service.name().to_owned(), stopped)
    };
    let is_idle = targets.is_empty() && unknown.is_empty();
    let unknown = unknown.into_iter().map(|(name, error)| (name, Err(error)));
    let mut failures = Failures::default();
    let mut services = Vec::new();
    for (name, stopped) in targets.iter().map(stop).chain(unknown) {
        services.push(StopOfManyJson {
            name,
            stopped: *stopped.as_ref().unwrap_or(&false),
            error: stopped.as_ref().err().map(Error::to_string),
        });
        if let Err(error) = stopped {
            failures.add(error);
        }
    }
    if args.json.json {
        output::print_json(&StopAllJson { services })?;
    } else if is_idle {
        output::note(globals, "no service of this project is running");
    }
    Ok(failures.report())
}

/// A name that neither a file nor a running service has, and the error about it.
pub(super) type UnknownService = (String, Error);

/// Returns the services with these names, each one before the services that it depends on, and the names that are unknown.
pub(super) fn named<'a>(
    globals: &'a Globals,
    names: &[String],
    which: &Which,
) -> Result<(Vec<NamedService<'a>>, Vec<UnknownService>)> {
    let mut targets = Vec::new();
    let mut unknown = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            continue;
        }
        let named = NamedService::new(globals, name, which)?;
        match named.check_name() {
            Ok(()) => targets.push(named),
            Err(error) if error.code() == NOT_RUNNING => unknown.push((name.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    Ok((dependents_first(targets), unknown))
}

/// Returns the services that run in the project's runtime directory. Each one comes before the services that it depends
/// on.
fn of_project(globals: &Globals) -> Result<Vec<NamedService<'_>>> {
    let namespaces = config::namespaces(globals, false)?;
    // Without a project, the common directory is only used on request: other programs of the user use it, too.
    let namespace = namespaces
        .iter()
        .find(|it| it.project.is_some() || globals.no_config);
    let Some(namespace) = namespace else {
        return Err(Error::Usage(format!(
            "`--all` stops the services of a project: {} (with --no-config, it stops those of the common runtime \
             directory)",
            config::no_file(globals)?
        )));
    };
    let services = services(namespace.dir.as_deref())?;
    let mut targets = Vec::new();
    for listed in services.list()? {
        if listed.status().state() == State::Absent {
            continue;
        }
        match NamedService::listed(globals, services.dir(), &listed)? {
            Some(named) => targets.push(named),
            None => output::error(&Error::Failed(format!(
                "the name of a service in {} is lost (`procref gc` removes the service if no process uses it)",
                shown(&services.dir().to_string_lossy())
            ))),
        }
    }
    Ok(dependents_first(targets))
}

/// Sorts services so that each one comes before the services that it depends on, because its process holds them.
///
/// A running instance lists its direct and indirect dependencies, so a dependent has more of them than each of its
/// dependencies.
fn dependents_first(targets: Vec<NamedService<'_>>) -> Vec<NamedService<'_>> {
    let mut sorted: Vec<(usize, NamedService<'_>)> = targets
        .into_iter()
        .map(|target| {
            let status = target.service.status();
            let number = status.map(|it| definition::dependencies(it.definition()).len());
            (number.unwrap_or_default(), target)
        })
        .collect();
    sorted.sort_by_key(|(number, _)| Reverse(*number));
    sorted.into_iter().map(|(_, target)| target).collect()
}

/// Stops a service, and prints what was done. Returns `true` if this process stopped it.
fn stop_one(globals: &Globals, force: bool, json: bool, named: &NamedService<'_>) -> Result<bool> {
    let before = named.service.status();
    let stopped = stop(globals, force, named)?;
    let name = shown(named.service.name());
    if json {
        return Ok(stopped);
    }
    if stopped {
        output::note(globals, &format!("stopped `{name}`"));
    } else if before.is_ok_and(|it| it.state() != State::Absent) {
        // Another process stopped the service first.
        output::note(globals, &format!("service `{name}` has stopped"));
    } else {
        // The service is in the requested state, so this is not a failure.
        output::note(globals, &format!("{}", named.not_running()));
    }
    Ok(stopped)
}

/// Stops the service, and reports which process it waits for if that takes a while.
pub(super) fn stop(globals: &Globals, force: bool, named: &NamedService<'_>) -> Result<bool> {
    let _unsuspended = Unsuspended::begin();
    let stopped = thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                report_blocker(globals, named);
            }
        });
        let stopped = match force {
            true => named.service.force_stop_blocking(),
            false => named.service.stop_blocking(),
        };
        drop(done);
        stopped
    });
    stopped.map_err(|error| with_holders(named, error))
}

fn report_blocker(globals: &Globals, named: &NamedService<'_>) {
    let blocker = named.service.status().ok().and_then(|it| it.transition());
    if let Some(pid) = blocker.filter(|&pid| pid != process::id()) {
        let name = shown(named.service.name());
        let note = format!(
            "waiting for process {pid}, which is starting or stopping `{name}` (kill that process to stop `{name}` now)"
        );
        output::note(globals, &note);
    }
}

/// Adds the holders to the error that clients hold the service.
fn with_holders(named: &NamedService<'_>, error: procref::Error) -> Error {
    if !matches!(error, procref::Error::Held { .. }) {
        return error.into();
    }
    let holders = named.service.status().map(|status| holders(&status));
    let holders = holders.unwrap_or_default();
    let error = Error::from(error);
    Error::Held(format!(
        "{error}\n{holders}to stop the service anyway, use --force"
    ))
}
