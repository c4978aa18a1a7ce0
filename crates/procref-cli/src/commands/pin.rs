use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, PinArgs};
use crate::error::Result;
use crate::json::{self, Instance};
use crate::output::{self, shown};
use crate::resolve::Plan;

/// Starts what does not run: a pin is what keeps a service without a client.
pub(crate) fn run(globals: &Globals, args: &PinArgs) -> Result<ExitCode> {
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let held = Held::new(globals, &plan)?;
    let service = held.service();
    service.handle.pin()?;
    let instance = Instance::acquired(service);
    let line = json::line(service.handle.info());
    held.release()?;
    if args.json.json {
        output::print_json(&instance)?;
    } else {
        output::note(globals, &format!("pinned {}: {line}", shown(&args.name)));
    }
    Ok(ExitCode::SUCCESS)
}
