//! A service that procref executes itself: from the fork to the moment it is ready, on this machine.

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
use crate::ready::{Callback, Condition, Probe, Waited};
use crate::runtime;
use crate::runtime::deadline::Deadline;

#[cfg(unix)]
mod linux;
pub(crate) mod own_start;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use linux as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use procref_supervisor::spec::LaunchSpec;
#[cfg(unix)]
use sys::ExecStage;
pub(crate) use sys::start;
use sys::{ExecFailure, LaunchedProcess};

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A service whose program was not executed yet, or is not ready yet.
pub(crate) struct StartingService {
    service: String,
    launched: LaunchedProcess,
    /// The program as it was named, and its arguments.
    line: Vec<String>,
    /// Its working directory.
    #[cfg(unix)]
    dir: String,
    log: ServiceLog,
    probe: Probe,
    /// What must hold before the probe counts.
    condition: Option<Condition>,
    /// Keeps the port for the service until it is executed.
    reserved: Mutex<Reserved>,
}

impl StartingService {
    /// Blocks: the supervisor is forked, and waits for an older instance's processes.
    pub(crate) fn start(
        set: NativeSet,
        key: &ServiceKey,
        command: &ServiceCommand,
        spec: LaunchSpec,
    ) -> Result<Self> {
        let (name, value) = own_start::variable(key, spec.generation);
        let prepared = command.clone().env(name, value).prepare(key)?;
        crash::point(Point::Prepared);
        let launched = sys::launch(set, key, &prepared, spec)?;
        // What the child has got is the child's alone from here on.
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

    /// The instance that was published, not as ready.
    pub(crate) fn instance(&self) -> Instance {
        self.launched.instance
    }

    fn info(&self) -> ServiceInfo {
        let Instance { identity, port, .. } = self.instance();
        ServiceInfo::new(identity.pid, port).identified(identity.start)
    }

    /// What asks whether it is ready, if that is a callback.
    pub(crate) fn callback(&self) -> Option<Callback> {
        self.probe.callback()
    }

    /// Executes the program and waits until it is ready; whether a callback thinks so, is not asked here.
    pub(crate) async fn run(self: &Arc<Self>, deadline: Deadline) -> Result<()> {
        let starting = Arc::clone(self);
        runtime::spawn_blocking("wait until the service is ready", move || {
            starting.run_here(deadline)
        })
        .await?
    }

    fn run_here(&self, deadline: Deadline) -> Result<()> {
        // As late as it can be: from here on, somebody else can get the port before the service does.
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        command::release_port(std::mem::take(&mut *reserved));
        drop(reserved);
        let failed = |source| self.supervisor_error("let the program be executed", source);
        let now = Instant::now();
        // What the clock cannot tell is far enough away.
        let end = now.checked_add(deadline.left()).unwrap_or(now + A_YEAR);
        if !self.launched.execute(end).map_err(failed)? {
            let missing = ["its program to be executed", "it was not yet"];
            return Err(self.not_ready(deadline.limit(), missing.map(str::to_owned).into()));
        }
        crash::point(Point::Executed);
        if let Some(exec_failure) = self.launched.exec_failure().map_err(failed)? {
            return Err(self.exec_error(exec_failure));
        }
        let waited = match &self.condition {
            Some(condition) => condition.wait(&self.info(), self.launched.alarm(), end),
            None => Waited::Ready,
        };
        let waited = match waited {
            Waited::Ready => self.probe.wait(self.launched.alarm(), end, &self.service),
            failed => failed,
        };
        match waited {
            Waited::Ready => Ok(()),
            Waited::Alarm => Err(self.death()),
            Waited::Late { waiting_for, last } => {
                Err(self.not_ready(deadline.limit(), (waiting_for, last)))
            }
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
            ExecStage::Descriptors => "give it its descriptors".to_owned(),
        };
        let reason = format!("could not {what}: {error}");
        Error::not_started(&self.service, self.program(), reason, Some(error))
    }

    /// A callback did not find it ready in time.
    pub(crate) fn late(&self, limit: Duration) -> Error {
        let last = "it did not say so".to_owned();
        self.not_ready(limit, (self.probe.to_string(), last))
    }

    /// It was ready, and did not say in time that it is well.
    pub(crate) fn unwell(&self, probe: &str, answer: String, limit: Duration) -> Error {
        let waiting_for = format!("its health check, {probe}");
        self.not_ready(limit, (waiting_for, answer))
    }

    fn not_ready(&self, limit: Duration, missing: (String, String)) -> Error {
        let program = self.program().to_owned();
        Error::not_ready(&self.service, program, limit, missing, self.output())
    }

    /// The program as it was named.
    fn program(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// Where the log is, and its last lines.
    fn output(&self) -> (PathBuf, String) {
        (self.log.path.clone(), self.log.tail())
    }

    /// Resolves when the service has ended before it was ready, with what to say about that.
    pub(crate) async fn alarm(self: &Arc<Self>) -> Error {
        let starting = Arc::clone(self);
        let waited = runtime::spawn_blocking("wait for the service's end", move || match starting
            .launched
            .wait_alarm()
        {
            Ok(()) => starting.death(),
            Err(error) => starting.supervisor_error("listen to it", error),
        });
        waited.await.unwrap_or_else(|error| error)
    }

    fn death(&self) -> Error {
        match self.launched.exit_status() {
            Ok(Some(status)) => {
                let after = self.launched.begun.elapsed();
                Error::exited(&self.service, &self.line, status, after, self.output())
            }
            Ok(None) => self.supervisor_error(
                "hear from it",
                io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it was killed while the service started",
                ),
            ),
            Err(error) => self.supervisor_error("hear from it", error),
        }
    }

    /// Waits until no process of a service that could not be used is left.
    pub(crate) async fn gone(self: Arc<Self>, limit: Duration) -> Result<bool> {
        drop(self.launched.close_gate());
        runtime::spawn_blocking("wait for the end of the service's processes", move || {
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
