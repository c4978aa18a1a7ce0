//! Processes, by system calls alone: no allocation and no lock.

use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::spec::{KILL_TIMEOUT, StopSpec};
use crate::state::Instance;

#[cfg(any(target_os = "macos", test))]
mod arguments;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use arguments::Arguments;
#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(target_os = "macos")]
pub use macos::*;

/// The beginning of the names of all supervisors.
pub const SUPERVISOR_TITLE: &str = "procref: ";

impl StopSpec {
    /// Stops the process of an instance that is not a child of this process, and waits until it has exited. Returns
    /// `false` if it could not be stopped.
    pub fn stop_by_identity(&self, instance: &Instance) -> bool {
        if instance.identity.pid == 0 {
            return true;
        }
        let signal = Signal::from_named_raw(self.signal).unwrap_or(Signal::TERM);
        match SignalSafeProcess::find(instance.identity) {
            Ok(Some(process)) => process.end(signal, self.grace, KILL_TIMEOUT),
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

/// Returns `true` if the process has exited, whose exit makes this descriptor readable. If the poll fails, the process
/// counts as alive.
pub fn has_exited(exit: &OwnedFd) -> bool {
    poll_exit(exit, Duration::ZERO).unwrap_or(false)
}

/// Waits until the process has exited, whether it is reaped or not. A pidfd is readable after the whole thread group
/// has exited. `/proc` shows `Z` as soon as the first thread has exited, even if the others still work.
pub fn poll_exit(exit: &OwnedFd, timeout: Duration) -> Result<bool, Errno> {
    let timeout = poll_limit(timeout);
    let mut fds = [PollFd::from_borrowed_fd(exit.as_fd(), PollFlags::IN)];
    Ok(poll(&mut fds, Some(&timeout))? > 0)
}

/// Returns a limit that poll(2) accepts. macOS counts milliseconds in 32 bits, which is 24 days.
pub fn poll_limit(limit: Duration) -> Timespec {
    const LONGEST: Duration = Duration::from_secs(20 * 24 * 60 * 60);

    let limit = match cfg!(target_os = "macos") {
        true => limit.min(LONGEST),
        false => limit,
    };
    Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    }
}

pub fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
