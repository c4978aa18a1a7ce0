use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, RunArgs};
use crate::client;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::watch;

/// Acquires the service and becomes the client. The kernel's count is by process, and `exec` keeps it; so
/// the reference is the client's from then on, and ends with it, however it ends.
pub(crate) fn run(globals: &Globals, args: &RunArgs) -> Result<ExitCode> {
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let held = Held::new(globals, &plan)?;
    if args.watch_client && !watch::is_watched() {
        return watch::run(held);
    }
    let failed = match client::become_it(&args.client, &held) {
        Err(failed) => failed,
        Ok(never) => match never {},
    };
    if let Err(error) = held.release() {
        crate::output::error(&error);
    }
    Err::<ExitCode, Error>(failed)
}
