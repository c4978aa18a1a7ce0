//! The signals of a keeper on Linux: SIGCHLD when a child exits, and SIGIO when the log is written to.

#![expect(unsafe_code, reason = "a descriptor for signals has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};

use procref_supervisor::log;

/// The size of the record that the kernel writes for each signal: signalfd(2). It begins with the number of the signal.
const RECORD: usize = 128;

/// Returns a descriptor that is readable when one of the signals is pending.
pub(in crate::keeper) fn open() -> io::Result<OwnedFd> {
    // SAFETY: `sigset_t` is an array of integers, for which all zeros is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in [libc::SIGCHLD, libc::SIGIO] {
        // SAFETY: `set` is initialized, is borrowed by nothing else, and `signal` is the number of a signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: `set` is initialized and outlives the call.
    match unsafe { libc::signalfd(-1, &raw const set, flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the call has opened the descriptor, and nothing else owns it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Reads the pending signals. Records a write to the log.
pub(in crate::keeper) fn take(fd: impl AsFd) {
    let mut records = [0_u8; 4 * RECORD];
    while let Ok(length @ 1..) = rustix::io::read(&fd, &mut records) {
        for record in records[..length].chunks_exact(RECORD) {
            let number = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
            if number == u32::try_from(libc::SIGIO).ok() {
                log::note_write();
            }
        }
    }
}
