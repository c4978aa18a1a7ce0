//! Observations of processes from outside.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::deadline::DEADLINE;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "linux")]
pub use linux::{now_ticks, processes_with_argument, supervisors_of};
pub use sys::now_ns;
#[cfg(windows)]
use windows as sys;

/// The identity of a process. A later process with the same pid has a different identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The pid.
    pub pid: u32,
    /// The start time, which no later process with this pid shares. The unit is clock ticks since boot, or 100 ns on
    /// Windows.
    pub start: u64,
}

impl Identity {
    /// Returns the identity of the process that has this pid now. Includes a process that has exited and was not
    /// reaped.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        sys::start_of(pid).map(|start| Self { pid, start })
    }

    /// Returns the identity of the calling process.
    ///
    /// # Panics
    ///
    /// Panics if the start time is not available, for example without `/proc`.
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id()).expect("the start time of this process")
    }

    /// Returns `true` if this process is running. A process that has exited is not, even before it is reaped.
    #[must_use]
    pub fn is_live(self) -> bool {
        !self.exits_within(Duration::ZERO)
    }

    /// Kills this process (SIGKILL, `TerminateProcess`). Does nothing if the process has exited, even if another
    /// process has its pid. Does not wait.
    pub fn kill(self) {
        sys::kill(self);
    }

    /// Waits until this process has exited.
    ///
    /// # Panics
    ///
    /// Panics if the process is still alive at the deadline.
    #[track_caller]
    pub fn wait_exit(self) {
        assert!(self.exits_within(DEADLINE), "process {self} does not exit");
    }

    /// Waits for the exit of this process. Returns `false` if the process is still alive after `limit`.
    #[must_use]
    pub fn exits_within(self, limit: Duration) -> bool {
        sys::exits_within(self, limit)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.start)
    }
}

impl FromStr for Identity {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "expected PID:START");
        let (pid, start) = text.split_once(':').ok_or_else(bad)?;
        Ok(Self {
            pid: pid.parse().map_err(|_| bad())?,
            start: start.parse().map_err(|_| bad())?,
        })
    }
}

/// Starts a thread that exits this process when `guardian` exits.
///
/// A test that is killed runs no cleanup. Its actors exit because their pipes are closed, but services and executed
/// programs have no pipes to the test.
pub fn exit_with_guardian(guardian: Identity) {
    std::thread::spawn(move || {
        while !guardian.exits_within(Duration::from_secs(3600)) {}
        crate::process::exit_at_once(99);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_with_another_start_time_is_not_live() {
        let own = Identity::own();
        assert!(own.is_live());
        let earlier = Identity {
            start: own.start - 1,
            ..own
        };
        assert!(!earlier.is_live());
        earlier.kill();
        assert_eq!(own.to_string().parse::<Identity>().ok(), Some(own));
    }
}
