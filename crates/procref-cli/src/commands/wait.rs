use std::process::ExitCode;
use std::slice;
use std::time::Duration;

use procref::State;
use serde::Serialize;

use crate::args::WaitArgs;
use crate::describe;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::json::InstanceJson;
use crate::output;
use crate::resolve::{NamedService, dead, running_variables};
use crate::text::shown;

#[derive(Serialize)]
struct WaitJson<'a> {
    name: &'a str,
    running: bool,
}

pub(crate) fn run(globals: &Globals, args: &WaitArgs) -> Result<ExitCode> {
    let named = NamedService::new(globals, &args.name, &args.which)?;
    if !args.allow_unknown {
        named.check_name().map_err(with_advice)?;
    }
    let service = &named.service;
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
            output::print_json(&WaitJson { name, running })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    check_not_dead(&named)?;
    let Some(info) = service.wait_ready_blocking(limit)? else {
        check_not_dead(&named)?;
        return Err(too_late("ready"));
    };
    if args.json.json {
        // The service may have stopped in the meantime.
        let variables = running_variables(globals, slice::from_ref(&args.name), &args.which);
        let variables = variables.unwrap_or_default();
        output::print_json(&InstanceJson::awaited(&named, &info, variables)?)?;
    } else {
        let line = describe::instance(&info);
        output::note(
            globals,
            &format!("`{}` is ready: {line}", shown(&args.name)),
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds advice to the error about an unknown name, for a script that waits before another script starts the service.
fn with_advice(mut error: Error) -> Error {
    if let Error::UnknownName(message) = &mut error {
        message.push_str("; to wait for a service that no file describes, use --allow-unknown");
    }
    error
}

/// Fails if the service is dead and no process is restarting it. Only its next client would restart it.
fn check_not_dead(named: &NamedService) -> Result<()> {
    let status = named.service.status()?;
    if status.state() != State::Dead || status.transition().is_some() {
        return Ok(());
    }
    Err(dead(&named.service, &status))
}
