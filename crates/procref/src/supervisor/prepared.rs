//! What a starter prepares for its supervisor, and both read.

#![expect(unsafe_code, reason = "texts in memory that a forked child keeps")]

use std::ffi::CStr;
use std::os::fd::RawFd;

use crate::command::StopPolicy;
use crate::kernel::signal_safe::NativeSet;
use crate::launch::LaunchSpec;
use crate::record;

/// What the child works with. Everything it points to lives in memory that the child keeps: the
/// parent's heap is gone by then.
#[derive(Clone, Copy)]
pub(super) struct SupervisorSpec {
    pub(super) set: NativeSet,
    pub(super) stop: StopPolicy,
    /// The process that forks.
    pub(super) starter: libc::pid_t,
    /// Where the child tells that it is in place.
    pub(super) ready: RawFd,
    /// The memory of the command line, which `ps` shows.
    pub(super) arguments: Range,
    /// What `ps` is to show.
    pub(super) title: Text,
    /// What is removed with the instance.
    pub(super) files: [Text; record::FILES],
    /// The directory of these, as it was: another one in its place is not ours to clean.
    pub(super) dir: Text,
    pub(super) dir_identity: (u64, u64),
    pub(super) dispensable: *const Range,
    pub(super) dispensable_count: usize,
    pub(super) service: Option<ServiceSpec>,
}

/// The service that the child is to be the parent of.
#[derive(Clone, Copy)]
pub(super) struct ServiceSpec {
    pub(super) launch: LaunchSpec,
    pub(super) program: Program,
    /// 0: none.
    pub(super) port: u16,
    /// What is known of its log, and this process's copy of the descriptor.
    pub(super) log: LogSpec,
    pub(super) log_file: RawFd,
    /// Where the starter answers: the end to read from, and this process's copy of the starter's.
    pub(super) confirm: [RawFd; 2],
    /// The starter's pidfd, or below 0.
    pub(super) starter: RawFd,
}

/// What is executed, and with what. In the arena.
#[derive(Clone, Copy)]
pub(super) struct Program {
    pub(super) path: Text,
    pub(super) args: *const Text,
    pub(super) env: *const Text,
    /// The digits of LISTEN_PID in the environment, or null.
    pub(super) listen_pid: *mut u8,
    pub(super) dir: Text,
    pub(super) null: RawFd,
    pub(super) log: RawFd,
    /// The socket to pass, or below 0.
    pub(super) listener: RawFd,
    /// A byte here lets it go on; the end of the pipe means that there is no starter any more.
    pub(super) gate: RawFd,
    /// Where it tells what went wrong. Closed by a successful exec.
    pub(super) exec_status: RawFd,
}

/// The highest number of a pid: seven digits suffice today, ten for ever.
pub(super) const PID_DIGITS: usize = 10;

/// What has to be known of a log after the fork. In the arena.
#[derive(Clone, Copy)]
pub(super) struct LogSpec {
    pub(super) path: Text,
    pub(super) rotated: Text,
    /// The directory of both.
    pub(super) dir: Text,
    /// In bytes.
    pub(super) limit: u64,
    /// The parts of the note: before the exit status, after it, and for an exit with success.
    pub(super) note: [Text; 3],
}

/// A NUL-terminated text in an arena, or null.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Text(pub(super) *const libc::c_char);

impl Text {
    pub(super) fn as_c_str(&self) -> &CStr {
        if self.0.is_null() {
            return c"";
        }
        // SAFETY: not null, so made by `Arena::text` from a NUL-terminated text, in memory that the child
        // keeps.
        unsafe { CStr::from_ptr(self.0) }
    }

    pub(super) fn as_ptr(self) -> *const libc::c_char {
        self.0
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Range {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Range {
    pub(super) fn length(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// The whole pages that a piece of memory touches, with so much around it.
    pub(super) fn around(address: usize, size: usize, margin: usize) -> Self {
        let start = address.saturating_sub(margin) & !(PAGE - 1);
        let end = address.saturating_add(size).saturating_add(margin);
        Self {
            start,
            end: end.checked_next_multiple_of(PAGE).unwrap_or(usize::MAX),
        }
    }
}

/// A multiple of every page size that Linux has.
pub(super) const PAGE: usize = 64 << 10;
