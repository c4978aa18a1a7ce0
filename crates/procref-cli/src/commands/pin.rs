use std::process::ExitCode;
use std::slice;

use crate::acquire::AcquiredServices;
use crate::args::AcquireArgs;
use crate::describe;
use crate::error::Result;
use crate::globals::Globals;
use crate::json::InstanceJson;
use crate::output;
use crate::resolve;
use crate::text::shown;

/// Pins the service, and starts it if it is not running. The pin keeps the service running without a client.
pub(crate) fn run(globals: &Globals, args: &AcquireArgs) -> Result<ExitCode> {
    let resolved = resolve::services(globals, slice::from_ref(&args.name), &args.service)?;
    let acquired = AcquiredServices::new(globals, &resolved)?;
    let (_, handle) = acquired.service();
    handle.pin()?;
    let instance = InstanceJson::acquired(&acquired);
    let line = describe::instance(handle.info());
    acquired.release()?;
    if args.json.json {
        output::print_json(&instance)?;
    } else {
        let name = shown(&args.name);
        output::note(globals, &format!("pinned `{name}`: {line}"));
        let quoted = shell_words::quote(&name);
        let next = format!("procref run {quoted} -- COMMAND; procref unpin {quoted}");
        output::next(globals, &next);
    }
    Ok(ExitCode::SUCCESS)
}
