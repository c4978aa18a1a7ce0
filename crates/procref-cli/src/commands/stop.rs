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
use crate::error::{Error, Result};
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
struct StopAllJson<'a> {
    services: Vec<StopOfManyJson<'a>>,
}

#[derive(Serialize)]
struct StopOfManyJson<'a> {
    name: &'a str,
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
    let targets = match args.all {
        true => of_project(globals)?,
        false => named(globals, &args.names, &args.which)?,
    };
    let mut results = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for target in &targets {
        let stopped = stop_one(globals, args.force, args.json.json, target);
        if let Err(error) = &stopped {
            output::error(error);
            if results
                .iter()
                .all(|(_, error): &(bool, Option<_>)| error.is_none())
            {
                code = ExitCode::from(error.code());
            }
        }
        let error = stopped.as_ref().err().map(Error::to_string);
        results.push((stopped.unwrap_or_default(), error));
    }
    if args.json.json {
        let services = targets.iter().zip(results);
        let services = services.map(|(target, (stopped, error))| StopOfManyJson {
            name: target.service.name(),
            stopped,
            error,
        });
        output::print_json(&StopAllJson {
            services: services.collect(),
        })?;
    } else if targets.is_empty() {
        output::note(globals, "no service of this project is running");
    }
    Ok(code)
}

/// Returns the services with these names. Each one comes before the services that it depends on.
pub(super) fn named<'a>(
    globals: &'a Globals,
    names: &[String],
    which: &Which,
) -> Result<Vec<NamedService<'a>>> {
    let mut targets = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            continue;
        }
        let named = NamedService::new(globals, name, which)?;
        named.check_name()?;
        targets.push(named);
    }
    Ok(dependents_first(targets))
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
