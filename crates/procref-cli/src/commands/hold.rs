use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, HoldArgs};
use crate::error::Result;
use crate::json::{self, Instance};
use crate::output::{self, shown};
use crate::resolve::Plan;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) fn run(globals: &Globals, args: &HoldArgs) -> Result<ExitCode> {
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let held = Held::new(globals, &plan)?;
    // From here on a signal is a wish to let go. Before, it ends this process, and the kernel lets go.
    let wishes = sys::Wishes::listen()?;
    let service = held.service();
    if args.json.json {
        output::print_json(&Instance::acquired(service))?;
    } else {
        let line = json::line(service.handle.info());
        output::print(&format!("{}: {line}\n", shown(&service.name)))?;
    }
    match wishes.wait(service.handle.info())? {
        End::Wish => {
            held.release()?;
            Ok(ExitCode::SUCCESS)
        }
        End::Death => {
            let error = json::death(&plan.service.build()?);
            held.release()?;
            Err(error)
        }
    }
}

/// What comes first.
enum End {
    /// Somebody wants it to let go.
    Wish,
    /// The service has ended.
    Death,
}
