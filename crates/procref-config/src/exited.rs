//! Describes services that have exited.

use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use procref::{SharedService, State, Status};

use crate::error::Error;
use crate::log_files;
use crate::text::shown;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub use sys::exit_signal;

/// The number of bytes at the end of a log in which the last line is searched.
const TAIL: u64 = 4096;

/// Time to wait for the supervisor to record how a service exited. It first stops the other processes of the service.
const RECORDING: Duration = Duration::from_secs(1);

/// The time between two reads of the status.
const TICK: Duration = Duration::from_millis(10);

/// Returns the error for a service that exited while this process held it, with the last line of its log.
pub fn exited_error(service: &SharedService) -> Error {
    let status = match status_after_exit(service) {
        Ok(status) => status,
        Err(error) => return error.into(),
    };
    let mut how = String::new();
    if let Some(status) = status.exit_status() {
        how = format!(": {}", exit(status));
    }
    if let Some(line) = status.log_path().and_then(last_line) {
        how.push_str(&format!("; last line of its log: {line}"));
    }
    Error::Exited {
        service: shown(service.name()),
        how,
    }
}

/// Returns the status of a service whose process has exited, with its exit status if the supervisor records it in time.
fn status_after_exit(service: &SharedService) -> procref::Result<Status> {
    let limit = Instant::now() + RECORDING;
    loop {
        let status = service.status()?;
        // This process notices the exit before the supervisor has recorded the exit status, and no process can wait for
        // that: the supervisor stays until the last client has exited.
        let is_recorded = status.state() != State::Dead || status.exit_status().is_some();
        if is_recorded || status.supervisor().is_none() || Instant::now() >= limit {
            return Ok(status);
        }
        thread::sleep(TICK);
    }
}

/// Returns how a program exited, as a clause.
pub fn exit(status: ExitStatus) -> String {
    match (status.code(), exit_signal(status)) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it exited".to_owned(),
    }
}

/// Returns the last line of a log.
pub fn last_line(path: &Path) -> Option<String> {
    let (tail, _) = log_files::tail(path, TAIL).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().next_back()?;
    Some(shown(&line.replace('\t', " ")))
}
