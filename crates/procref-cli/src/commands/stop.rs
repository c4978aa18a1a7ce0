use std::process::ExitCode;

use serde::Serialize;

use crate::args::{Globals, StopArgs};
use crate::error::{Error, Result};
use crate::output::{self, shown};
use crate::plan::Known;
use crate::signals::Unsuspended;

use super::status::holders;

#[derive(Serialize)]
struct Stopped<'a> {
    name: &'a str,
    stopped: bool,
}

pub(crate) fn run(globals: &Globals, args: &StopArgs) -> Result<ExitCode> {
    let known = Known::new(globals, &args.name, &args.which)?;
    known.check_name()?;
    let stopped = {
        let _unsuspended = Unsuspended::begin();
        if args.force {
            known.service.force_stop_blocking()
        } else {
            known.service.stop_blocking()
        }
    };
    let stopped = stopped.map_err(|error| held(&known, error))?;
    if args.json.json {
        output::print_json(&Stopped {
            name: &args.name,
            stopped,
        })?;
    } else if stopped {
        output::note(globals, &format!("stopped {}", shown(&args.name)));
    } else {
        // It is as it was to be, so this is no failure.
        output::note(globals, &format!("{}", known.not_running()));
    }
    Ok(ExitCode::SUCCESS)
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
