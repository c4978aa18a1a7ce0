//! Describes services that have exited.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use procref::process::Process;
use procref::{SharedService, Status};

use crate::error::Error;
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
    let status = service.status()?;
    // This process notices the exit before the supervisor has recorded the exit status. The supervisor exits after that.
    if let (None, Some(pid)) = (status.exit_status(), status.supervisor()) {
        if let Ok(supervisor) = Process::open(pid) {
            supervisor.wait(RECORDING)?;
        }
        return service.status();
    }
    Ok(status)
}

/// Returns how a program exited, as a clause.
pub fn exit(status: ExitStatus) -> String {
    match (status.code(), exit_signal(status)) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it exited".to_owned(),
    }
}

/// Returns the last line of a file.
pub fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().next_back()?;
    Some(shown(&line.replace('\t', " ")))
}
