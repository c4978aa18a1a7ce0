use std::process::ExitCode;

use crate::acquire::AcquiredServices;
use crate::args::AcquireArgs;
use crate::describe;
use crate::error::Result;
use crate::globals::Globals;
use crate::json::InstanceJson;
use crate::output;
use crate::resolve::ResolvedService;
use crate::text::shown;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) fn run(globals: &Globals, args: &AcquireArgs) -> Result<ExitCode> {
    let resolved = ResolvedService::new(globals, &args.name, &args.service)?;
    let acquired = AcquiredServices::new(globals, &resolved)?;
    // A stop signal now requests a release of the service. An earlier stop signal kills this process, and the
    // kernel releases the reference.
    let requests = sys::StopRequests::listen()?;
    let service = acquired.service();
    if args.json.json {
        output::print_json(&InstanceJson::acquired(service))?;
    } else {
        let line = describe::instance(service.handle.info());
        output::print(&format!("{}: {line}\n", shown(&service.name)))?;
    }
    match requests.wait(service.handle.info())? {
        HoldEnd::StopRequested => {
            acquired.release()?;
            Ok(ExitCode::SUCCESS)
        }
        HoldEnd::ServiceExited => {
            let error = describe::exited_error(&resolved.service.build()?);
            acquired.release()?;
            Err(error)
        }
    }
}

/// The reason why `hold` ends.
enum HoldEnd {
    StopRequested,
    ServiceExited,
}
