use std::process::ExitCode;

use crate::args::LogsArgs;
use crate::error::{Error, Result};
use crate::follow::{Follower, LogFile};
use crate::globals::Globals;
use crate::resolve::{NamedService, require};
use crate::text::shown;

pub(crate) fn run(globals: &Globals, args: &LogsArgs) -> Result<ExitCode> {
    let named = NamedService::new(globals, &args.name, &args.which)?;
    let log = log_file(&named)?;
    let mut follower = Follower::open(log, args.lines)?;
    follower.print_new()?;
    if args.follow {
        follower.follow(named.service)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the log of the running instance. A log that the configuration names remains after the service has stopped.
fn log_file(named: &NamedService<'_>) -> Result<LogFile> {
    let error = match require(named) {
        Ok(status) => match status.log_path() {
            Some(path) => return Ok(LogFile::new(&named.service, path)),
            None => Error::Failed(format!(
                "service `{}` has no log: it was not started by a command",
                shown(named.service.name())
            )),
        },
        Err(error) => error,
    };
    match &named.spec.log {
        Some(path) if path.exists() => Ok(LogFile::new(&named.service, path)),
        _ => Err(error),
    }
}
