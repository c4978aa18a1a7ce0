use std::process::{self, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use procref::State;
use serde::Serialize;

use crate::args::StopArgs;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::output;
use crate::resolve::NamedService;
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

pub(crate) fn run(globals: &Globals, args: &StopArgs) -> Result<ExitCode> {
    let named = NamedService::new(globals, &args.name, &args.which)?;
    named.check_name()?;
    let before = named.service.status();
    let stopped = stop(globals, args, &named);
    let stopped = stopped.map_err(|error| with_holders(&named, error))?;
    if args.json.json {
        output::print_json(&StopJson {
            name: &args.name,
            stopped,
        })?;
    } else if stopped {
        output::note(globals, &format!("stopped `{}`", shown(&args.name)));
    } else if before.is_ok_and(|it| it.state() != State::Absent) {
        // Another process stopped the service first.
        let name = shown(&args.name);
        output::note(globals, &format!("service `{name}` has stopped"));
    } else {
        // The service is in the requested state, so this is not a failure.
        output::note(globals, &format!("{}", named.not_running()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops the service, and reports which process it waits for if that takes a while.
fn stop(globals: &Globals, args: &StopArgs, named: &NamedService<'_>) -> procref::Result<bool> {
    let _unsuspended = Unsuspended::begin();
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                report_blocker(globals, named);
            }
        });
        let stopped = match args.force {
            true => named.service.force_stop_blocking(),
            false => named.service.stop_blocking(),
        };
        drop(done);
        stopped
    })
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
    Error::Held(format!(
        "{error}\n{holders}to stop the service anyway, use --force"
    ))
}
