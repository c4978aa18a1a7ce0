use std::process::ExitCode;
use std::slice;

use crate::acquire::AcquiredServices;
use crate::args::HoldArgs;
use crate::describe;
use crate::error::Result;
use crate::globals::Globals;
use crate::helper;
use crate::json::InstanceJson;
use crate::output;
use crate::resolve;
use crate::text::shown;

mod ending;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

use ending::Ending;

pub(crate) fn run(globals: &Globals, args: &HoldArgs) -> Result<ExitCode> {
    let ending = Ending::watch(args)?;
    let args = &args.acquire;
    let resolved = resolve::services(globals, slice::from_ref(&args.name), &args.service)?;
    let Some(acquired) = AcquiredServices::unless(globals, &resolved, ending.reached())? else {
        let (end, name) = (ending.reason()?, shown(&args.name));
        let note = format!("procref: {end} before service `{name}` was acquired");
        output::note(globals, &note);
        return Ok(ExitCode::SUCCESS);
    };
    // A stop signal now requests a release of the service. An earlier stop signal kills this process, and the
    // kernel releases the reference.
    let requests = sys::StopRequests::listen()?;
    let (service, handle) = acquired.service();
    if args.json.json {
        output::print_json(&InstanceJson::acquired(&acquired))?;
    } else {
        let line = describe::instance(handle.info());
        let name = shown(&service.name);
        output::print(&format!("{name}: {line}\n"))?;
        let quoted = shell_words::quote(&name);
        let next = format!("in another terminal, procref run {quoted} -- COMMAND; here, Ctrl-C");
        output::next(globals, &next);
    }
    match requests.wait(handle.info(), &ending)? {
        HoldEnd::StopRequested => acquired.release()?,
        HoldEnd::EndingReached => {
            acquired.release()?;
            ending.reason()?;
        }
        HoldEnd::ServiceExited => {
            let spec = resolved.all().last().expect("a resolved service");
            let service = helper::build(spec)?;
            let error = describe::exited_error(&service);
            acquired.release()?;
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The reason why `hold` ends.
enum HoldEnd {
    StopRequested,
    /// The end of the standard input, or of the process of `--for-pid`.
    EndingReached,
    ServiceExited,
}
