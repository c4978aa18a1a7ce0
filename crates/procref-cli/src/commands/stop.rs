use std::process::{self, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use procref::State;
use serde::Serialize;

use crate::args::{Globals, StopArgs};
use crate::error::{Error, Result};
use crate::output::{self, shown};
use crate::resolve::Known;
use crate::signals::Unsuspended;

use super::status::holders;

/// How long it waits for another process before it says so.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Serialize)]
struct Stopped<'a> {
    name: &'a str,
    stopped: bool,
}

pub(crate) fn run(globals: &Globals, args: &StopArgs) -> Result<ExitCode> {
    let known = Known::new(globals, &args.name, &args.which)?;
    known.check_name()?;
    let before = known.service.status();
    let stopped = stop(globals, args, &known);
    let stopped = stopped.map_err(|error| held(&known, error))?;
    if args.json.json {
        output::print_json(&Stopped {
            name: &args.name,
            stopped,
        })?;
    } else if stopped {
        output::note(globals, &format!("stopped {}", shown(&args.name)));
    } else if before.is_ok_and(|it| it.state() != State::Absent) {
        // Another process has stopped it before this one could.
        let name = shown(&args.name);
        output::note(globals, &format!("service `{name}` has stopped"));
    } else {
        // It is as it was to be, so this is no failure.
        output::note(globals, &format!("{}", known.not_running()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops the service, and reports which process it waits for if that takes a while.
fn stop(globals: &Globals, args: &StopArgs, known: &Known<'_>) -> procref::Result<bool> {
    let _unsuspended = Unsuspended::begin();
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                report_blocker(globals, known);
            }
        });
        let stopped = match args.force {
            true => known.service.force_stop_blocking(),
            false => known.service.stop_blocking(),
        };
        drop(done);
        stopped
    })
}

fn report_blocker(globals: &Globals, known: &Known<'_>) {
    let blocker = known.service.status().ok().and_then(|it| it.transition());
    if let Some(pid) = blocker.filter(|&pid| pid != process::id()) {
        let name = shown(known.service.name());
        let note = format!(
            "waiting for process {pid}, which is starting or stopping {name}; end that process to stop {name} now"
        );
        output::note(globals, &note);
    }
}

fn held(known: &Known<'_>, error: procref::Error) -> Error {
    if !matches!(error, procref::Error::Held { .. }) {
        return error.into();
    }
    let holders = known.service.status().map(|status| holders(&status));
    let holders = holders.unwrap_or_default();
    Error::Held(format!(
        "{error}\n{holders}To stop it all the same, use --force."
    ))
}
