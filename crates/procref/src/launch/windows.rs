//! Starts a service on Windows, without a supervisor. The service's job terminates the service with its last
//! client.
//!
//! The items have the same names as on Linux. The process is created suspended, so it executes no instruction
//! before it is in the job, published and recorded.

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

use super::{LaunchSpec, ResumeFn};
use crate::command::Prepared;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Instance, NativeSet};
use crate::key::ServiceKey;
use crate::process::{self, Identity};
use crate::ready::Alarm;

mod create;

use create::{Console, Program, Suspended};

/// Does nothing, because services have no supervisor on Windows.
pub(crate) fn start(_: NativeSet, _: &ServiceKey, _: StopSpec) -> Result<()> {
    Ok(())
}

/// Creates the process of a service, suspended, and publishes the instance as not ready.
///
/// Blocks until the processes of an older instance have exited.
pub(crate) fn launch(
    set: NativeSet,
    key: &ServiceKey,
    program: &Prepared,
    spec: LaunchSpec,
    _: ResumeFn,
) -> Result<LaunchedProcess> {
    let begun = Instant::now();
    let shown = program.program.display().to_string();
    let failed = |what: &str, error: io::Error| {
        let reason = format!("could not {what}: {error}");
        Error::not_started(key.name(), &shown, reason, Some(error))
    };
    let refused = |fault| match fault {
        Fault::Refused(error) => error,
        Fault::Removed => failed("publish the instance", io::ErrorKind::NotFound.into()),
    };
    if !set.end_tree(spec.patience).map_err(refused)? {
        let reason = "processes that an older instance has started are still alive".to_owned();
        return Err(Error::not_started(key.name(), &shown, reason, None));
    }
    let created = set
        .with_job(|job| create(key, program, console(spec.stop), job))
        .map_err(refused)?;
    let process = created.map_err(|error| Error::exec(key.name(), &shown, error))?;
    // If this value is dropped before the process runs, the process is terminated.
    let mut launched = LaunchedProcess {
        instance: spec.instance,
        begun,
        process,
        gate: Mutex::new(Some(Gate)),
    };
    crash::point(Point::ServiceForked);
    let start =
        creation_time(launched.alarm()).map_err(|error| failed("read its creation time", error))?;
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

/// Returns the console of the new process.
///
/// Only a service whose stop signal is Ctrl-Break shares the console of this process. A shared console for
/// all services was rejected, because closing a console terminates all of its processes. A service that other
/// clients use, or that is pinned, would exit with the terminal of its starter.
fn console(stop: StopSpec) -> Console {
    // If this process has no console to share, Windows would show a new one.
    match stop.signal == process::BREAK && console::is_attached() {
        true => Console::Shared,
        false => Console::Own,
    }
}

/// Creates the process, suspended, in the job of the service.
///
/// If this process is in a job itself (that of a test runner or an editor), its children are in that job, too, and are
/// terminated with it. So the new process breaks away from that job. If that is not allowed, the process is in both
/// jobs, because jobs nest.
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
            "it is a batch file, and arguments cannot be passed to batch files safely (use the program that it \
             runs, or `cmd /c` with the whole command line)",
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
        "this process is in a job that no process may leave; the service is terminated with that job"
    );
    Ok(created)
}

/// The reason why a program was not executed. This type has no values on Windows, because the creation of the
/// process fails instead.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ExecFailure {}

/// The process of a service that is published as not ready. It runs when the gate is opened. If this value is
/// dropped before that, the process never runs.
#[derive(Debug)]
pub(crate) struct LaunchedProcess {
    /// The published instance.
    pub(crate) instance: Instance,
    pub(crate) begun: Instant,
    process: Suspended,
    /// `None` after the process is resumed, or when it will never run.
    gate: Mutex<Option<Gate>>,
}

/// Keeps a service from starting.
#[derive(Debug)]
pub(crate) struct Gate;

/// A wait for the exit of a process cannot be cancelled.
pub(crate) type Cancel = ();

pub(crate) const CAN_CANCEL: bool = false;

pub(crate) fn cancellation() -> io::Result<(Cancel, ())> {
    Ok(((), ()))
}

impl LaunchedProcess {
    /// Resumes the process. Returns `true`.
    pub(crate) fn execute(&self, _end: Instant) -> io::Result<bool> {
        if let Some(Gate) = self.close_gate() {
            self.process.resume()?;
        }
        Ok(true)
    }

    pub(crate) fn exec_failure(&self) -> io::Result<Option<ExecFailure>> {
        Ok(None)
    }

    /// Closes the gate. A process that does not run yet never runs.
    pub(crate) fn close_gate(&self) -> Option<Gate> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.take()
    }

    /// Returns the handle of the process, which is signaled when the process has exited.
    pub(crate) fn alarm(&self) -> &OwnedHandle {
        &self.process.process
    }

    /// Calls `wait` with the alarm.
    pub(crate) fn with_alarm<T>(&self, wait: impl FnOnce(Alarm<'_>) -> T) -> T {
        wait(self.alarm())
    }

    /// Waits until the process has exited.
    pub(crate) fn wait_alarm(&self, _cancelled: &()) -> io::Result<bool> {
        while !wait_timeout(self.alarm(), Duration::from_secs(3600))? {}
        Ok(true)
    }

    /// Returns the exit status of the process, after the alarm.
    pub(crate) fn exit_status(&self) -> io::Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// Terminates the process and waits until it has exited. Returns `false` if that takes longer than `limit`. The
    /// processes that it has started are terminated when the instance is cleared.
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
            tracing::error!(pid = self.process.pid, %error, "could not terminate the process of a service that was not launched");
        }
    }
}
