//! The status of a service.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;

use crate::info::Info;

/// The status of a service at one moment.
#[pyclass(frozen, module = "procref")]
pub(crate) struct Status(pub(crate) procref::Status);

#[pymethods]
impl Status {
    /// The state: "absent", "starting", "ready", "stopping" or "dead".
    #[getter]
    fn state(&self) -> String {
        self.0.state().to_string()
    }

    /// The number of processes that hold the service.
    #[getter]
    fn clients(&self) -> u32 {
        self.0.clients()
    }

    /// The processes that hold the service, ordered by pid. The list has at most 100 processes.
    #[getter]
    fn holders(&self) -> Vec<Holder> {
        self.0.holders().iter().cloned().map(Holder).collect()
    }

    /// The number of clients that `holders` does not list.
    #[getter]
    fn unknown_holders(&self) -> u32 {
        self.0.unknown_holders()
    }

    /// The number of the last instance, or 0.
    #[getter]
    fn generation(&self) -> u32 {
        self.0.generation()
    }

    /// The instance, or None.
    #[getter]
    fn info(&self) -> Option<Info> {
        self.0.instance().cloned().map(Info)
    }

    /// The time at which the instance was started, in seconds since 1970 as `time.time()` returns it, or None.
    #[getter]
    fn started_at(&self) -> Option<f64> {
        self.0.started_at().map(seconds_since_1970)
    }

    /// The age of the instance in seconds, or None.
    #[getter]
    fn uptime(&self) -> Option<f64> {
        self.0.uptime().map(|time| time.as_secs_f64())
    }

    /// The time in seconds for which the service is kept after its last client.
    #[getter]
    fn linger(&self) -> f64 {
        self.0.linger().as_secs_f64()
    }

    /// The rest of this time in seconds, or None if the service has clients, is pinned, or does not linger.
    #[getter]
    fn linger_left(&self) -> Option<f64> {
        self.0.linger_left().map(|time| time.as_secs_f64())
    }

    /// The pid of the process that stops the service after its last client, or None.
    #[getter]
    fn supervisor(&self) -> Option<u32> {
        self.0.supervisor()
    }

    /// The pid of the process that is starting or stopping the service, or None.
    #[getter]
    fn transition(&self) -> Option<u32> {
        self.0.transition()
    }

    /// True if the service is pinned.
    #[getter]
    fn pinned(&self) -> bool {
        self.0.is_pinned()
    }

    /// The fingerprint of the instance, or None.
    #[getter]
    fn fingerprint(&self) -> Option<&str> {
        self.0.fingerprint()
    }

    /// The program and its arguments, as the starter has set them.
    #[getter]
    fn command_line(&self) -> Vec<String> {
        self.0.command_line().to_vec()
    }

    /// The path of the file with the service's output, or None.
    #[getter]
    fn log(&self) -> Option<PathBuf> {
        self.0.log_path().map(PathBuf::from)
    }

    /// The exit status of a service that has exited by itself, as `subprocess` gives it: the code, or the negative number
    /// of a signal. None if it runs.
    #[getter]
    fn exit_status(&self) -> Option<i32> {
        self.0.exit_status().and_then(return_code)
    }

    fn __repr__(&self) -> String {
        let (state, clients) = (self.0.state(), self.0.clients());
        format!("<procref.Status {state}, clients={clients}>")
    }
}

/// A process that holds a service.
#[pyclass(frozen, module = "procref")]
#[derive(Clone)]
pub(crate) struct Holder(procref::Holder);

#[pymethods]
impl Holder {
    /// The process id.
    #[getter]
    fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The command line, or None if it cannot be read.
    #[getter]
    fn command(&self) -> Option<&str> {
        self.0.command()
    }

    /// The time at which the process was started, in seconds since 1970.
    #[getter]
    fn since(&self) -> f64 {
        seconds_since_1970(self.0.since())
    }

    /// True if the process is suspended.
    #[getter]
    fn suspended(&self) -> bool {
        self.0.is_suspended()
    }

    fn __repr__(&self) -> String {
        format!("<procref.Holder pid={}>", self.0.pid())
    }
}

fn seconds_since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

/// Returns an exit status as the module `subprocess` does.
pub(crate) fn return_code(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt as _;
        if let Some(signal) = status.signal() {
            return Some(-signal);
        }
    }
    status.code()
}
