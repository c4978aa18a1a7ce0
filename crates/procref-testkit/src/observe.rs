//! Processes, seen from outside.

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
pub use linux::{now_ticks, supervisors_of};
pub use sys::now_ns;
#[cfg(windows)]
use windows as sys;

/// One process, and never its successor under the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The number.
    pub pid: u32,
    /// Its start time, which no later process with that number shares: clock ticks since boot, or, on
    /// Windows, units of 100 ns.
    pub start: u64,
}

impl Identity {
    /// Whoever has this pid now; one that has ended, too, as long as somebody has yet to take note.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        sys::start_of(pid).map(|start| Self { pid, start })
    }

    /// The calling process.
    ///
    /// # Panics
    ///
    /// When the system does not tell of it (`/proc` is not there).
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id()).expect("the start time of this process")
    }

    /// Whether this very process runs. One that has ended does not, whoever has yet to take note.
    #[must_use]
    pub fn is_live(self) -> bool {
        !self.exits_within(Duration::ZERO)
    }

    /// Ends this very process without asking it (SIGKILL, `TerminateProcess`); nobody else, and nobody if
    /// it is gone. Does not wait.
    pub fn kill(self) {
        sys::kill(self);
    }

    /// Waits until this very process has ended.
    ///
    /// # Panics
    ///
    /// When it outlives the deadline.
    #[track_caller]
    pub fn wait_exit(self) {
        assert!(self.exits_within(DEADLINE), "process {self} does not end");
    }

    /// Whether this very process ends within `limit`.
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
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, "want PID:START");
        let (pid, start) = text.split_once(':').ok_or_else(bad)?;
        Ok(Self {
            pid: pid.parse().map_err(|_| bad())?,
            start: start.parse().map_err(|_| bad())?,
        })
    }
}

/// Ends the calling process when `guardian` dies, from a thread of its own.
///
/// A test that is killed runs no teardown. Its actors notice by their closed
/// pipes, but the services and the execed programs have none.
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
    fn an_identity_is_not_its_successor() {
        let me = Identity::own();
        assert!(me.is_live());
        let earlier = Identity {
            start: me.start - 1,
            ..me
        };
        assert!(!earlier.is_live());
        earlier.kill();
        assert_eq!(me.to_string().parse::<Identity>().ok(), Some(me));
    }
}
