use std::process::ExitCode;

use crate::args::{Globals, LogsArgs};
use crate::error::{Error, Result};
use crate::follow::{Follower, Source};
use crate::output::shown;
use crate::resolve::{Known, require};

pub(crate) fn run(globals: &Globals, args: &LogsArgs) -> Result<ExitCode> {
    let known = Known::new(globals, &args.name, &args.which)?;
    let source = source(&known)?;
    let mut follower = Follower::open(source, args.lines)?;
    follower.catch_up()?;
    if args.follow {
        follower.follow(known.service)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where it writes, or wrote: a log that the configuration names stays when the service has ended.
fn source(known: &Known<'_>) -> Result<Source> {
    let refused = match require(known) {
        Ok(status) => match status.log_path() {
            Some(path) => return Ok(Source::new(&known.service, path)),
            None => Error::Failed(format!(
                "service `{}` was not started by a command of procref's, so it has no log",
                shown(known.service.name())
            )),
        },
        Err(error) => error,
    };
    match &known.spec.log {
        Some(path) if path.exists() => Ok(Source::new(&known.service, path)),
        _ => Err(refused),
    }
}
