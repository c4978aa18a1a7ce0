use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::args::{Globals, WaitArgs};
use crate::error::{Error, Result};
use crate::output::{self, shown};
use crate::plan::Known;
use crate::report::{self, Instance};

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
    let ready = service.wait_ready_blocking(limit)?;
    let info = ready.ok_or_else(|| too_late("ready"))?;
    if args.json.json {
        output::print_json(&Instance::new(&args.name, service.runtime_dir(), &info))?;
    } else {
        let line = report::line(&info);
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
