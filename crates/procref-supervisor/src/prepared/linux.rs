//! The data of a supervisor that is a fork of its starter.

use rustix::fd::RawFd;

use super::{LogSpec, Program, Text};
use crate::raw_calls::NativeSet;
use crate::spec::{LaunchSpec, StopSpec};

/// Number of files that are removed with an instance.
pub const FILES: usize = 4;

/// The data of a supervisor.
#[derive(Clone, Copy)]
pub struct SupervisorSpec {
    pub set: NativeSet,
    pub stop: StopSpec,
    /// The starter, which forks.
    pub starter: libc::pid_t,
    /// The pipe on which the child reports to the starter.
    pub ready: RawFd,
    /// The memory of the command line, which `ps` shows. Empty if it is unknown.
    pub arguments: Range,
    /// The text that `ps` should show.
    pub title: Text,
    /// The files that are removed with the instance.
    pub files: [Text; FILES],
    /// The note of failed starts, which is removed with the set.
    pub failure_note: Text,
    /// The directory of these files.
    pub dir: Text,
    /// Device and inode of that directory. If another directory has its path, its files are not removed.
    pub dir_identity: (u64, u64),
    /// The memory of the starter that the supervisor unmaps.
    pub dispensable: *const Range,
    pub dispensable_count: usize,
    /// The service that the supervisor launches. `None` if the starter runs a callback.
    pub service: Option<ServiceSpec>,
}

/// The data of a service that a supervisor launches.
#[derive(Clone, Copy)]
pub struct ServiceSpec {
    pub launch: LaunchSpec,
    pub program: Program,
    /// The port that was chosen for the service. 0 means that the service has none.
    pub port: u16,
    pub log: LogSpec,
    /// The starter's descriptor of the log.
    pub log_file: RawFd,
    /// The pipe on which the starter confirms: the read end, and the starter's end.
    pub confirm: [RawFd; 2],
    /// The starter's pidfd, or a negative number if this kernel has no pidfds.
    pub starter: RawFd,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Range {
    pub start: usize,
    pub end: usize,
}

impl Range {
    pub fn length(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Returns the whole pages of a piece of memory and of a margin before and after it.
    pub fn around(address: usize, size: usize, margin: usize) -> Self {
        let start = address.saturating_sub(margin) & !(PAGE - 1);
        let end = address.saturating_add(size).saturating_add(margin);
        Self {
            start,
            end: end.checked_next_multiple_of(PAGE).unwrap_or(usize::MAX),
        }
    }
}

/// A multiple of every page size that Linux has.
pub const PAGE: usize = 64 << 10;
