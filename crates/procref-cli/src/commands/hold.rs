use std::process::ExitCode;
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use procref::{ServiceInfo, SharedService, State};

use crate::acquire::AcquiredServices;
use crate::args::{AcquireArgs, HoldArgs};
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
    let Some(mut acquired) = AcquiredServices::unless(globals, &resolved, ending.reached())? else {
        let (end, name) = (ending.reason()?, shown(&args.name));
        let note = format!("procref: {end} before service `{name}` was acquired");
        output::note(globals, &note);
        return Ok(ExitCode::SUCCESS);
    };
    // A stop signal now requests a release of the service. An earlier stop signal kills this process, and the
    // kernel releases the reference.
    let requests = sys::StopRequests::listen()?;
    print(args, &acquired)?;
    if !args.json.json {
        let name = shown(&args.name);
        let quoted = shell_words::quote(&name);
        let next = format!("in another terminal, procref run {quoted} -- COMMAND; here, Ctrl-C");
        output::next(globals, &next);
    }
    let held = helper::build(resolved.all().last().expect("a resolved service"))?;
    let mut info = acquired.service().0.info.clone();
    let mut end = requests.wait(&info, &ending)?;
    while end == HoldEnd::ServiceExited {
        end = match await_restart(&held, &requests, &ending)? {
            Restart::Done(started) => {
                info = started;
                acquired.refresh(&resolved)?;
                // The reader may have read the first line only, and closed its end.
                let _ = print(args, &acquired);
                requests.wait(&info, &ending)?
            }
            Restart::Ended(end) => end,
            Restart::None => {
                let error = describe::exited_error(&held);
                acquired.release()?;
                return Err(error);
            }
        };
    }
    acquired.release()?;
    if end == HoldEnd::EndingReached {
        ending.reason()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the instance that this process holds.
fn print(args: &AcquireArgs, acquired: &AcquiredServices) -> Result<()> {
    if args.json.json {
        return output::print_json(&InstanceJson::acquired(acquired));
    }
    let (service, _) = acquired.service();
    let line = describe::instance(&service.info);
    output::print(&format!("{}: {line}\n", shown(&service.name)))
}

/// The time in which another process must begin to start a service again after it has stopped it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two checks for the reasons to end.
const TICK: Duration = Duration::from_millis(50);

/// What happened after the instance has exited.
enum Restart {
    /// Another instance serves, and this process holds it.
    Done(ServiceInfo),
    /// The service died, or was stopped.
    None,
    /// This command must end before that is known.
    Ended(HoldEnd),
}

/// Waits until another process has started the service again, if one has stopped it.
///
/// `procref restart` stops the service and then starts it, so for a moment it looks like `procref stop`.
fn await_restart(
    held: &SharedService,
    requests: &sys::StopRequests,
    ending: &Ending,
) -> Result<Restart> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let status = held.status()?;
        if status.state() == State::Dead && status.transition().is_none() {
            return Ok(Restart::None);
        }
        if status.state() != State::Dead {
            if let Some(started) = held.wait_ready_blocking(TICK)? {
                return Ok(Restart::Done(started));
            }
        }
        if let Some(end) = requests.received(ending)? {
            return Ok(Restart::Ended(end));
        }
        // A start may take as long as it needs.
        if status.transition().is_none() && Instant::now() >= limit {
            return Ok(Restart::None);
        }
        if status.state() == State::Dead {
            thread::sleep(TICK);
        }
    }
}

/// The reason why `hold` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoldEnd {
    StopRequested,
    /// The end of the standard input, or of the process of `--for-pid`.
    EndingReached,
    ServiceExited,
}
