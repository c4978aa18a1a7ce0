//! By handles.

use std::time::Duration;

use super::Identity;
use crate::process::{self, Process};

pub(super) fn start_of(pid: u32) -> Option<u64> {
    Process::open(pid).ok()?.start().ok()
}

/// A handle on this very process, which may have ended.
fn open(process: Identity) -> Option<Process> {
    let handle = Process::open(process.pid).ok()?;
    // The pid is not given to another process while it is open.
    (handle.start().ok()? == process.start).then_some(handle)
}

pub(super) fn kill(process: Identity) {
    if let Some(handle) = open(process) {
        // It may have ended meanwhile.
        let _ = handle.kill();
    }
}

pub(super) fn exits_within(process: Identity, limit: Duration) -> bool {
    open(process).is_none_or(|handle| handle.wait(limit).expect("wait for a process"))
}

/// Nanoseconds on the clock that all processes of the machine share.
///
/// # Panics
///
/// When Windows has no clock.
#[must_use]
pub fn now_ns() -> u64 {
    process::clock().expect("a clock")
}
