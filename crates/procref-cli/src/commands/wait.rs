use std::process::ExitCode;
use std::time::Duration;

use procref::State;
use serde::Serialize;

use crate::args::{Globals, WaitArgs};
use crate::error::{Error, Result};
use crate::json::{self, Instance};
use crate::output::{self, shown};
use crate::resolve::Known;

#[derive(Serialize)]
struct Stopped<'a> {
    name: &'a str,
    running: bool,
}

pub(crate) fn run(globals: &Globals, args: &WaitArgs) -> Result<ExitCode> {
    let known = Known::new(globals, &args.name, &args.which)?;
    if !args.allow_unknown {
        known.check_name().map_err(with_advice)?;
    }
    let service = &known.service;
    let limit = args.timeout.unwrap_or(Duration::MAX);
    let too_late = |what| Error::TooLate {
        service: shown(&args.name),
        what,
        limit,
    };
    if args.stopped {
        if !service.wait_stopped_blocking(limit)? {
            return Err(too_late("stopped"));
        }
        if args.json.json {
            let (name, running) = (args.name.as_str(), false);
            output::print_json(&Stopped { name, running })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    check_alive(&known)?;
    let Some(info) = service.wait_ready_blocking(limit)? else {
        check_alive(&known)?;
        return Err(too_late("ready"));
    };
    if args.json.json {
        output::print_json(&Instance::new(&args.name, service.runtime_dir(), &info))?;
    } else {
        let line = json::line(&info);
        output::note(globals, &format!("{} is ready: {line}", shown(&args.name)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The error about an unknown name, for a script that waits before another one starts the service.
fn with_advice(mut error: Error) -> Error {
    if let Error::NotRunning { hint, .. } = &mut error {
        let advice = "; to wait for a service that no file describes, use --allow-unknown";
        hint.insert_str(0, advice);
    }
    error
}

/// An error if the service is dead and no process is starting it again: only its next client does that.
fn check_alive(known: &Known) -> Result<()> {
    let status = known.service.status()?;
    if status.state() != State::Dead || status.transition().is_some() {
        return Ok(());
    }
    let how = status.exit_status();
    let how = how.map(|status| format!(": {}", json::ended(status)));
    Err(Error::Dead {
        service: shown(known.service.name()),
        how: how.unwrap_or_default(),
    })
}
