//! Observations by process handles.

use std::time::Duration;

use super::Identity;
use crate::process::{self, Process};

pub(super) fn start_of(pid: u32) -> Option<u64> {
    Process::open(pid).ok()?.start().ok()
}

/// Opens this process, which may have exited.
fn open(process: Identity) -> Option<Process> {
    let handle = Process::open(process.pid).ok()?;
    // The pid is not reused while the handle is open.
    (handle.start().ok()? == process.start).then_some(handle)
}

pub(super) fn kill(process: Identity) {
    if let Some(handle) = open(process) {
        // An error means that the process has exited.
        let _ = handle.kill();
    }
}

pub(super) fn exits_within(process: Identity, limit: Duration) -> bool {
    open(process).is_none_or(|handle| handle.wait(limit).expect("wait for a process"))
}

/// Returns the nanoseconds of the clock that all processes of the machine share.
///
/// # Panics
///
/// Panics if Windows has no performance counter.
#[must_use]
pub fn now_ns() -> u64 {
    process::clock().expect("a performance counter")
}
