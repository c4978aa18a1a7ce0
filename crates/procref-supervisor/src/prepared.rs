//! What a starter prepares for its supervisor, and both read.

#![expect(unsafe_code, reason = "texts in memory that a forked child keeps")]

use core::ffi::CStr;
use rustix::fd::RawFd;

use crate::raw_calls::NativeSet;
use crate::spec::LaunchSpec;
use crate::spec::StopSpec;

/// How many files are removed with an instance.
pub const FILES: usize = 4;

/// What the child works with. Everything it points to lives in memory that the child keeps: the
/// parent's heap is gone by then.
#[derive(Clone, Copy)]
pub struct SupervisorSpec {
    pub set: NativeSet,
    pub stop: StopSpec,
    /// The process that forks.
    pub starter: libc::pid_t,
    /// Where the child tells that it is in place.
    pub ready: RawFd,
    /// The memory of the command line, which `ps` shows.
    pub arguments: Range,
    /// What `ps` is to show.
    pub title: Text,
    /// What is removed with the instance.
    pub files: [Text; FILES],
    /// The directory of these, as it was: another one in its place is not ours to clean.
    pub dir: Text,
    pub dir_identity: (u64, u64),
    pub dispensable: *const Range,
    pub dispensable_count: usize,
    pub service: Option<ServiceSpec>,
}

/// The service that the child is to be the parent of.
#[derive(Clone, Copy)]
pub struct ServiceSpec {
    pub launch: LaunchSpec,
    pub program: Program,
    /// 0: none.
    pub port: u16,
    /// What is known of its log, and this process's copy of the descriptor.
    pub log: LogSpec,
    pub log_file: RawFd,
    /// Where the starter answers: the end to read from, and this process's copy of the starter's.
    pub confirm: [RawFd; 2],
    /// The starter's pidfd, or below 0.
    pub starter: RawFd,
}

/// What is executed, and with what. In the arena.
#[derive(Clone, Copy)]
pub struct Program {
    pub path: Text,
    pub args: *const Text,
    pub env: *const Text,
    /// The digits of LISTEN_PID in the environment, or null.
    pub listen_pid: *mut u8,
    pub dir: Text,
    pub null: RawFd,
    pub log: RawFd,
    /// The socket to pass, or below 0.
    pub listener: RawFd,
    /// A byte here lets it go on; the end of the pipe means that there is no starter any more.
    pub gate: RawFd,
    /// Where it tells what went wrong. Closed by a successful exec.
    pub exec_status: RawFd,
}

/// The highest number of a pid: seven digits suffice today, ten for ever.
pub const PID_DIGITS: usize = 10;

/// What has to be known of a log after the fork. In the arena.
#[derive(Clone, Copy)]
pub struct LogSpec {
    pub path: Text,
    pub rotated: Text,
    /// The directory of both.
    pub dir: Text,
    /// In bytes.
    pub limit: u64,
    /// The parts of the note: before the exit status, after it, and for an exit with success.
    pub note: [Text; 3],
}

/// A NUL-terminated text in an arena, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(pub *const libc::c_char);

impl Text {
    pub fn as_c_str(&self) -> &CStr {
        if self.0.is_null() {
            return c"";
        }
        // SAFETY: not null, so made by `Arena::text` from a NUL-terminated text, in memory that the child
        // keeps.
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

    /// The whole pages that a piece of memory touches, with so much around it.
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
