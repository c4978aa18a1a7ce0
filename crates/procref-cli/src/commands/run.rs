use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, RunArgs};
use crate::client;
use crate::error::Result;
use crate::plan::Plan;
use crate::watch;

/// Acquires the service and runs the client.
pub(crate) fn run(globals: &Globals, args: &RunArgs) -> Result<ExitCode> {
    if args.watch_client {
        watch::check()?;
    }
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let held = Held::new(globals, &plan)?;
    if args.watch_client && !watch::is_watched() {
        return watch::run(held);
    }
    client::run(&args.client, held)
}
