//! Starting a service on Windows, where there are no supervisors: its job ends it with its last client.
//!
//! Under the names that the engine knows from the other systems. The service is created suspended, so that it
//! runs not one instruction before it is in the job, published and on record.

use std::fs::File;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use procref_winsys::console;
use procref_winsys::handle::wait_timeout;
use procref_winsys::process::{creation_time, terminate};
use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;
use windows_sys::Win32::System::Threading::CREATE_BREAKAWAY_FROM_JOB;

use procref_supervisor::spec::StopSpec;

use super::LaunchSpec;
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Instance, NativeSet};
use crate::key::ServiceKey;
use crate::process::{self, Identity};

mod create;

use create::{Console, Program, Suspended};

/// Nobody asks for one: the kernel needs no supervisor.
pub(crate) fn start(_: NativeSet, _: &ServiceKey, _: StopSpec) -> Result<()> {
    Ok(())
}

/// Creates the service, suspended, and publishes it, not as ready.
///
/// Blocks until an older service's processes are gone.
pub(crate) fn launch(
    set: NativeSet,
    key: &ServiceKey,
    program: &Prepared,
    spec: LaunchSpec,
) -> Result<LaunchedProcess> {
    let begun = Instant::now();
    let shown = program.program.display().to_string();
    let failed = |what: &str, error: io::Error| {
        let reason = format!("could not {what}: {error}");
        Error::not_started(key.name(), &shown, reason, Some(error))
    };
    let refused = |fault| match fault {
        Fault::Refused(error) => error,
        Fault::Removed => failed("publish it", io::ErrorKind::NotFound.into()),
    };
    if !set.end_tree(spec.patience).map_err(refused)? {
        let reason = "processes that an older instance has started are still alive".to_owned();
        return Err(Error::not_started(key.name(), &shown, reason, None));
    }
    let created = set
        .with_job(|job| create(key, program, console(spec.stop), job))
        .map_err(refused)?;
    let process = created.map_err(|error| Error::exec(key.name(), &shown, error))?;
    // Until it runs, dropping this ends it.
    let mut launched = LaunchedProcess {
        instance: spec.instance,
        begun,
        process,
        gate: Mutex::new(Some(Gate)),
    };
    crash::point(Point::ServiceForked);
    let start = creation_time(launched.alarm())
        .map_err(|error| failed("ask when it was created", error))?;
    let identity = Identity {
        pid: launched.process.pid,
        start,
    };
    launched.instance = spec.launched(identity, program.port);
    set.admit(&launched.instance, spec.generation)
        .map_err(refused)?;
    crash::point(Point::ServicePublished);
    Ok(launched)
}

/// Only a service that is to be asked by Ctrl-Break is put on this process's console. It was rejected to do so
/// with all: closing a console ends whoever is on it, so a service that others use, or that is pinned, would
/// end with the terminal that it happened to be started from.
fn console(stop: StopSpec) -> Console {
    // Windows would show a new one where there is none to share.
    match stop.signal == process::BREAK && console::is_attached() {
        true => Console::Shared,
        false => Console::Own,
    }
}

/// Creates the process, suspended, in the service's job.
///
/// A client that is in a job itself (a runner of tests, an editor) would take the service into it, and the
/// service would end with that job. So it is asked to break away. Where that job does not allow it, it stays
/// in there, and is in its own one as well: jobs nest.
fn create(
    key: &ServiceKey,
    program: &Prepared,
    console: Console,
    job: &OwnedHandle,
) -> io::Result<Suspended> {
    let path = &program.program;
    let ending = path.extension().unwrap_or_default();
    if ["bat", "cmd"]
        .iter()
        .any(|it| ending.eq_ignore_ascii_case(it))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a batch file, whose arguments cannot be passed on safely; name the program that it \
             runs, or `cmd /c` with all of the line",
        ));
    }
    let input = File::open("NUL")?;
    let program = Program {
        program: path,
        args: &program.args,
        env: &program.env,
        dir: &program.dir,
        input: &input,
        output: &program.log.file,
        console,
        job,
    };
    match create::create(&program, CREATE_BREAKAWAY_FROM_JOB) {
        Err(error) if error.raw_os_error() == Some(ERROR_ACCESS_DENIED as i32) => {}
        created => return created,
    }
    let created = create::create(&program, 0)?;
    tracing::info!(
        service = key.name(),
        pid = created.pid,
        "this process is in a job that nothing may leave, and the service ends with that job"
    );
    Ok(created)
}

/// Why a program was not executed, where that is found only when it is to run: never, here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ExecFailure {}

/// A service that was created and published as not ready. It runs when the gate is opened; when this is
/// dropped before, never.
#[derive(Debug)]
pub(crate) struct LaunchedProcess {
    /// As it is published.
    pub(crate) instance: Instance,
    pub(crate) begun: Instant,
    process: Suspended,
    /// Taken by whoever lets it run, or sees to it that it never does.
    gate: Mutex<Option<Gate>>,
}

/// Keeps a service from starting.
#[derive(Debug)]
pub(crate) struct Gate;

impl LaunchedProcess {
    /// Lets it run. True: it does.
    pub(crate) fn execute(&self, _end: Instant) -> io::Result<bool> {
        if let Some(Gate) = self.close_gate() {
            self.process.resume()?;
        }
        Ok(true)
    }

    pub(crate) fn exec_failure(&self) -> io::Result<Option<ExecFailure>> {
        Ok(None)
    }

    /// From now on it will not run, if it does not yet.
    pub(crate) fn close_gate(&self) -> Option<Gate> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.take()
    }

    /// The service's process, which is signalled when it has ended.
    pub(crate) fn alarm(&self) -> &OwnedHandle {
        &self.process.process
    }

    /// Waits for the alarm.
    pub(crate) fn wait_alarm(&self) -> io::Result<()> {
        while !wait_timeout(self.alarm(), Duration::from_secs(3600))? {}
        Ok(())
    }

    /// How the service ended, after the alarm.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// Waits until a service that could not be used is gone, whatever it takes; false if that takes longer.
    /// What it has started ends when it is cleared.
    pub(crate) fn wait_gone(&self, limit: Duration) -> io::Result<bool> {
        terminate(self.alarm())?;
        wait_timeout(self.alarm(), limit)
    }
}

impl Drop for LaunchedProcess {
    fn drop(&mut self) {
        if self.close_gate().is_none() {
            return;
        }
        if let Err(error) = terminate(self.alarm()) {
            tracing::error!(pid = self.process.pid, %error, "could not end a service that never ran");
        }
    }
}
