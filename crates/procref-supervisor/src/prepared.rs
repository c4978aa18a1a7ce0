//! The data that a starter prepares before the fork, for the processes after the fork.
//!
//! All of it is in one mapping, the arena. The supervisor keeps that mapping and unmaps the rest of its starter's
//! memory. So the data is `Copy`, and every pointer in it points into the arena.

#![expect(unsafe_code, reason = "texts in memory that a forked child keeps")]

use core::ffi::CStr;

use rustix::fd::RawFd;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

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
