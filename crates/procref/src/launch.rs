//! Starting a service that procref executes, from the fork until the service is ready.
//!
//! On Unix, three processes take part. The supervisor may be a thread of the keeper. The gate delays the program until the instance is published and
//! recorded:
//!
//! ```text
//!  starter                      supervisor                    service's process
//!    |
//!    |-- fork ------------------->|
//!    |                            | waits until an older instance's
//!    |                            | processes have exited (TREE),
//!    |                            | shares the transition lock
//!    |<------------- Registered --|
//!    | still holds the lock       |
//!    |-- confirm ---------------->|
//!    |                            |-- fork ----------------------->|
//!    |                            | publishes the instance,        | waits at the gate
//!    |                            | not as ready                   |
//!    |<---- Launched(pid, port) --|                                |
//!    | writes the record          |                                |
//!    |-- opens the gate ------------------------------------------>|
//!    |                            |                                | execve
//!    |<--------------------------------- exec_status: EOF, or why --|
//!    | waits until it is ready    |                                |
//!    | publishes READY            |                                |
//!    | releases the lock          |                                |
//!    |                            | owns the lock alone, sees READY,
//!    |                            | releases the lock, watches
//! ```
//!
//! The starter or the supervisor may die at any point. Each of them holds the lock, so the death of one does
//! not release it, and the other one cleans up. If the service exits before it is ready, the supervisor
//! reports `Exited`, and then `TreeExited` when the leftover processes have exited, too.
//!
//! On Windows there is no supervisor. The starter creates the process suspended, in the service's job. It
//! resumes the process instead of opening a gate.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::command::{self, Prepared, Reserved, ServiceCommand, ServiceLog};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Instance, NativeSet};
use crate::key::ServiceKey;
use crate::ready::{Callback, Condition, Notified, Probe, Waited};
use crate::runtime;
use crate::runtime::deadline::Deadline;
use crate::runtime::helpers::Helper;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
pub(crate) mod own_start;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use procref_supervisor::spec::LaunchSpec;
#[cfg(unix)]
use sys::ExecStage;
pub(crate) use sys::start;
use sys::{ExecFailure, LaunchedProcess};

/// Interval at which a process that waits for a supervisor checks whether it is suspended. The kernel reports a
/// suspension only to the parent, and the supervisor's parent does not wait for it.
pub(crate) const CHECK_SUSPENDED: Duration = Duration::from_secs(1);

/// A call that continues the service's supervisor if it is suspended. A launch repeats it while it waits.
pub(crate) type ResumeFn = Arc<dyn Fn() + Send + Sync>;

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Ends the wait of a thread when it is dropped.
struct CancelOnDrop {
    helper: Arc<Helper>,
    cancel: Option<sys::Cancel>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.cancel.take();
        if sys::CAN_CANCEL {
            self.helper.mark_ending();
        }
    }
}

/// A service that is not ready yet. Its program may not be executed yet.
pub(crate) struct StartingService {
    service: String,
    launched: LaunchedProcess,
    /// The program as the user named it, and its arguments.
    line: Vec<String>,
    /// The working directory.
    #[cfg(unix)]
    dir: String,
    log: ServiceLog,
    probe: Probe,
    /// A condition that must hold before the probe is used.
    condition: Option<Condition>,
    /// Sockets that reserve the port until the program is executed.
    reserved: Mutex<Reserved>,
}

impl StartingService {
    /// Launches the service, whose process then waits at its gate. Blocks until the processes of an older
    /// instance have exited.
    pub(crate) fn start(
        set: NativeSet,
        key: &ServiceKey,
        command: &ServiceCommand,
        spec: LaunchSpec,
        resume: ResumeFn,
    ) -> Result<Self> {
        let (name, value) = own_start::variable(key, spec.generation);
        let prepared = command.clone().env(name, value).prepare(key)?;
        crash::point(Point::Prepared);
        let launched = sys::launch(set, key, &prepared, spec, resume)?;
        // Drop this process's copies of the descriptors that the child uses.
        let Prepared {
            #[cfg(unix)]
            dir,
            log,
            reserved,
            ready,
            ..
        } = prepared;
        Ok(Self {
            service: key.name().to_owned(),
            launched,
            line: command.line(),
            #[cfg(unix)]
            dir: dir.to_string_lossy().into_owned(),
            log,
            probe: ready,
            condition: command.condition(),
            reserved: Mutex::new(reserved),
        })
    }

    /// Returns the instance that was published as not ready.
    pub(crate) fn instance(&self) -> Instance {
        self.launched.instance
    }

    fn info(&self) -> ServiceInfo {
        let Instance { identity, port, .. } = self.instance();
        ServiceInfo::new(identity.pid, port).identified(identity.start)
    }

    /// Returns the readiness callback, if there is one.
    pub(crate) fn callback(&self) -> Option<Callback> {
        self.probe.callback()
    }

    /// Executes the program and waits until it is ready, on a thread of procref. Returns the values that the program
    /// sent. Does not call a readiness callback.
    pub(crate) async fn run(self: &Arc<Self>, deadline: Deadline) -> Result<Notified> {
        let starting = Arc::clone(self);
        runtime::spawn_blocking("wait until the service is ready", move || {
            starting.run_here(deadline)
        })
        .await?
    }

    /// Like [`run`](Self::run), but blocks this thread.
    pub(crate) fn run_here(&self, deadline: Deadline) -> Result<Notified> {
        // Release the port as late as possible. After this, another process can bind the port before the
        // service does.
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        command::release_port(std::mem::take(&mut *reserved));
        drop(reserved);
        let failed = |source| self.supervisor_error("open the gate of its program", source);
        let now = Instant::now();
        // A time that the clock cannot represent is replaced by one year.
        let end = now.checked_add(deadline.left()).unwrap_or(now + A_YEAR);
        if !self.launched.execute(end).map_err(failed)? {
            let missing = ["its program to be executed", "it is not executed yet"];
            return Err(self.not_ready(deadline.limit(), missing.map(str::to_owned).into()));
        }
        crash::point(Point::Executed);
        if let Some(exec_failure) = self.launched.exec_failure().map_err(failed)? {
            return Err(self.exec_error(exec_failure));
        }
        let waited = self.launched.with_alarm(|alarm| {
            let waited = match &self.condition {
                Some(condition) => condition.wait(&self.info(), alarm, end),
                None => Waited::Ready(Notified::default()),
            };
            match waited {
                Waited::Ready(_) => self.probe.wait(alarm, end, &self.service),
                failed => failed,
            }
        });
        match waited {
            Waited::Ready(notified) => Ok(notified),
            Waited::Alarm => Err(self.exit_error()),
            Waited::Late { waiting_for, last } => {
                Err(self.not_ready(deadline.limit(), (waiting_for, last)))
            }
            Waited::Invalid(reason) => Err(Error::notification(
                &self.service,
                self.program().to_owned(),
                reason,
                self.output(),
            )),
            Waited::Unusable { waiting_for, why } => Err(Error::InvalidSetting {
                service: self.service.clone(),
                setting: "ready",
                reason: format!("waiting for {waiting_for}: {why}"),
            }),
        }
    }

    #[cfg(windows)]
    fn exec_error(&self, exec_failure: ExecFailure) -> Error {
        match exec_failure {}
    }

    #[cfg(unix)]
    fn exec_error(&self, ExecFailure { stage, errno }: ExecFailure) -> Error {
        let error = io::Error::from_raw_os_error(errno);
        let what = match stage {
            ExecStage::Execute => return Error::exec(&self.service, self.program(), error),
            ExecStage::Directory => format!("enter its working directory {}", self.dir),
            ExecStage::Descriptors => "set up its descriptors".to_owned(),
        };
        let reason = format!("could not {what}: {error}");
        Error::not_started(&self.service, self.program(), reason, Some(error))
    }

    /// Returns the error for a service that its readiness callback did not find ready in time.
    pub(crate) fn not_ready_error(&self, limit: Duration) -> Error {
        let last = "it did not return true".to_owned();
        self.not_ready(limit, (self.probe.to_string(), last))
    }

    /// Returns the error for a service that was ready and did not pass its health check in time.
    pub(crate) fn unwell(&self, probe: &str, answer: String, limit: Duration) -> Error {
        let waiting_for = format!("its health check, {probe}");
        self.not_ready(limit, (waiting_for, answer))
    }

    fn not_ready(&self, limit: Duration, missing: (String, String)) -> Error {
        let program = self.program().to_owned();
        Error::not_ready(&self.service, program, limit, missing, self.output())
    }

    /// Returns the program as the user named it.
    fn program(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// Returns the path of the log and its last lines.
    fn output(&self) -> (PathBuf, String) {
        (self.log.path.clone(), self.log.tail())
    }

    /// Waits until the service exits before it is ready. Returns the error for that.
    ///
    /// If the future is dropped before that, its thread exits.
    pub(crate) async fn alarm(self: &Arc<Self>) -> Error {
        let (cancel, cancelled) = match sys::cancellation() {
            Ok(both) => both,
            Err(error) => return self.supervisor_error("make a pipe", error),
        };
        let starting = Arc::clone(self);
        let waiting = runtime::start_blocking("wait until the service exits", move || {
            match starting.launched.wait_alarm(&cancelled) {
                Ok(true) => starting.exit_error(),
                // No future waits for this output.
                Ok(false) => Error::from("the wait was cancelled"),
                Err(error) => starting.supervisor_error("watch it", error),
            }
        });
        match waiting {
            Ok(waiting) => {
                let _cancel = CancelOnDrop {
                    helper: Arc::clone(waiting.helper()),
                    cancel: Some(cancel),
                };
                waiting.output().await
            }
            Err(error) => error,
        }
    }

    fn exit_error(&self) -> Error {
        match self.launched.exit_status() {
            Ok(Some(status)) => {
                let after = self.launched.begun.elapsed();
                Error::exited(&self.service, &self.line, status, after, self.output())
            }
            Ok(None) => self.supervisor_error(
                "read its report",
                io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it was killed while the service started",
                ),
            ),
            Err(error) => self.supervisor_error("read its report", error),
        }
    }

    /// Closes the gate and waits until all processes of the service have exited. Returns `false` if that takes longer
    /// than `limit`.
    pub(crate) async fn wait_tree_exit(self: Arc<Self>, limit: Duration) -> Result<bool> {
        let _ = self.launched.close_gate();
        runtime::spawn_blocking("wait until the service's processes exit", move || {
            self.launched
                .wait_gone(limit)
                .map_err(|error| self.supervisor_error("wait for the service's processes", error))
        })
        .await?
    }

    fn supervisor_error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Supervisor {
            service: self.service.clone(),
            operation,
            source,
        }
    }
}
