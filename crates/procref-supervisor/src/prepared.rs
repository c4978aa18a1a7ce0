//! The data that a starter prepares before the fork, for the processes after the fork.
//!
//! All of it is in one mapping, the arena. The supervisor keeps that mapping and unmaps the rest of its starter's
//! memory. So the data is `Copy`, and every pointer in it points into the arena.

#![expect(unsafe_code, reason = "texts in memory that a forked child keeps")]

use core::ffi::CStr;

use rustix::fd::RawFd;

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

/// The program of a service, with everything that `execve` needs.
#[derive(Clone, Copy)]
pub struct Program {
    pub path: Text,
    /// `argv`, with a null pointer at the end.
    pub args: *const Text,
    /// `environ`, with a null pointer at the end.
    pub env: *const Text,
    /// The digits of LISTEN_PID in the environment, or null if the program gets no socket.
    pub listen_pid: *mut u8,
    /// The working directory.
    pub dir: Text,
    /// `/dev/null`, the standard input.
    pub null: RawFd,
    /// The log, the standard output and standard error.
    pub log: RawFd,
    /// The socket that the program gets, or a negative number.
    pub listener: RawFd,
    /// The gate. A byte opens it. EOF means that the starter died.
    pub gate: RawFd,
    /// The pipe on which the child reports why the program could not be executed. A successful `execve` closes it.
    pub exec_status: RawFd,
}

/// Digits of the highest pid. Linux uses at most seven, and a pid of 32 bits has at most ten.
pub const PID_DIGITS: usize = 10;

/// The data of a service's log.
#[derive(Clone, Copy)]
pub struct LogSpec {
    pub path: Text,
    /// The path of the rotated log.
    pub rotated: Text,
    /// The directory of both.
    pub dir: Text,
    /// Longest length of the log, in bytes.
    pub limit: u64,
    /// The parts of the note about leftover processes: before the exit status, after it, and the advice that follows
    /// after an exit with success.
    pub note: [Text; 3],
}

/// A NUL-terminated text in the arena, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(pub *const libc::c_char);

impl Text {
    pub fn as_c_str(&self) -> &CStr {
        if self.0.is_null() {
            return c"";
        }
        // SAFETY: the pointer is not null, so the arena has made it from a `CStr`: a NUL ends the text. The starter
        // keeps the arena until the fork is done, and the child never unmaps its copy. Nothing writes to the text while
        // the reference lives, except `listen_pid`, whose variable is never read as a `CStr`.
        unsafe { CStr::from_ptr(self.0) }
    }

    pub fn as_ptr(self) -> *const libc::c_char {
        self.0
    }
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
