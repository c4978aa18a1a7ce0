//! The data of a kernel object at one moment, for people.

#[cfg(unix)]
use std::os::unix::process::ExitStatusExt as _;
#[cfg(windows)]
use std::os::windows::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::SystemTime;

use super::{Ended, Snapshot};

/// The data of an object at one moment, for people.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub(crate) snapshot: Snapshot,
    /// Processes that hold a reference and that the object names.
    pub(crate) holders: Vec<u32>,
    /// Number of references that the object counts but does not name.
    pub(crate) unnamed: u32,
    pub(crate) supervisor: Option<u32>,
    /// Process that holds the lock.
    pub(crate) transition: Option<u32>,
    /// Time of the last step, except steps that only read, in whole seconds.
    pub(crate) changed_at: SystemTime,
}

/// Converts the end of a process to the status type of the standard library.
pub(crate) fn exit_status(ended: Ended) -> ExitStatus {
    // The encoding of wait(2).
    #[cfg(unix)]
    return ExitStatus::from_raw(match ended {
        Ended::Exited(code) => i32::from(code) << 8,
        Ended::Killed(signal) => signal.into(),
    });
    // Without signals, the exit code that shells report for a killed process.
    #[cfg(windows)]
    return ExitStatus::from_raw(match ended {
        Ended::Exited(code) => code.into(),
        Ended::Killed(signal) => 128 + u32::from(signal),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_converts_to_exit_status() {
        assert_eq!(exit_status(Ended::Exited(3)).code(), Some(3));
        #[cfg(unix)]
        assert_eq!(exit_status(Ended::Killed(9)).signal(), Some(9));
    }
}
