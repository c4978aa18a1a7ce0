//! As the program's parent: there is no `exec`.
//!
//! The service's process is this one then, for as long as the program runs. Both are in the service's job, so
//! neither outlives it, and the references to what the service depends on end with this one.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{self, Command, ExitCode};
use std::thread;
use std::time::Duration;

use procref::process::{Process, StopEvent};
use procref::{Ready, ServiceCommand};

use super::Acquired;
use crate::error::Error;
use crate::output;

/// What is written into the service's log when its program runs.
const STARTED: &str = "procref: what comes before the program is done";

pub(super) fn myself() -> OsString {
    env::current_exe().map_or_else(|_| "procref".into(), Into::into)
}

/// What tells that the service's program runs.
pub(crate) fn started() -> Ready {
    Ready::log(format!("^{STARTED}$"))
}

/// [`started`] for a service that does not say when it is ready.
pub(crate) fn started_unasked(command: ServiceCommand) -> ServiceCommand {
    command.ready(started())
}

/// This process stays, so its command line does not tell whether the program runs.
pub(crate) fn ready_after_setup(command: ServiceCommand) -> ServiceCommand {
    command
}

/// Runs the program until it ends, and ends with its exit code. Returns only if it could not be started.
pub(super) fn become_program(program: &mut Command, joined: Vec<Acquired>) -> io::Result<ExitCode> {
    // Not before: who makes such an event can be asked to stop, and what comes before the program does not look.
    let asked = StopEvent::create().map_err(io::Error::other)?;
    let mut child = program.spawn()?;
    let _ = writeln!(io::stderr(), "{STARTED}");
    let process = Process::open(child.id());
    thread::spawn(move || {
        // Passed on. A program that cannot be asked is ended at once, as it would be without this process;
        // how long another one may take is seen to by who asks.
        let passed = asked
            .wait(Duration::MAX)
            .and_then(|_| process?.stop(Duration::MAX));
        if let Err(error) = passed {
            output::error(&Error::from(error));
        }
    });
    let code = child.wait().ok().and_then(|status| status.code());
    drop(joined);
    process::exit(code.unwrap_or(i32::from(crate::error::FAILED)))
}

/// A socket that has the port would be taken for the service: there is none that is bound and refuses
/// connections. So somebody else may get it until the program listens, and the program says so then.
pub(super) fn reserve(_: u16) {}
