use std::process::ExitCode;

use crate::acquire::Held;
use crate::args::{Globals, HoldArgs};
use crate::error::Result;
use crate::output::{self, shown};
use crate::plan::Plan;
use crate::report::{self, Instance};

#[cfg_attr(unix, path = "hold/unix.rs")]
#[cfg_attr(windows, path = "hold/windows.rs")]
mod sys;

pub(crate) fn run(globals: &Globals, args: &HoldArgs) -> Result<ExitCode> {
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let held = Held::new(globals, &plan)?;
    // From here on a signal is a wish to let go. Before, it ends this process, and the kernel lets go.
    let wishes = sys::Wishes::listen()?;
    let service = held.service();
    if args.json.json {
        output::print_json(&Instance::acquired(service))?;
    } else {
        let line = report::line(service.handle.info());
        output::print(&format!("{}: {line}\n", shown(&service.name)))?;
    }
    match wishes.wait(service.handle.info())? {
        End::Wish => {
            held.release()?;
            Ok(ExitCode::SUCCESS)
        }
        End::Death => {
            let error = report::death(&plan.service.build()?);
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
