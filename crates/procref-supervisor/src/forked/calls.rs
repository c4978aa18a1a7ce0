//! The calls that the processes after the fork share.

#![expect(
    unsafe_code,
    reason = "system calls, and giving back the parent's memory"
)]

use core::{iter, slice};
use rustix::fd::RawFd;

use rustix::mm::munmap;

use crate::prepared::SupervisorSpec;
use crate::process::SignalSafeProcess;
use crate::state::Identity;

pub fn exit() -> ! {
    // SAFETY: `_exit` runs nothing of this process's.
    unsafe { libc::_exit(0) }
}

/// This process. Without `/proc` its start time is 0.
pub fn own_identity() -> Identity {
    let pid = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let start = SignalSafeProcess::start_of(pid).unwrap_or(0);
    Identity { pid, start }
}

/// Whether all of it was written.
pub fn write(fd: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: the buffer is valid for its length, and nothing but a number is the descriptor's.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written) == Ok(bytes.len())
}

/// What tells a supervisor from other processes, and what `top` shows.
pub fn name_process(plan: &SupervisorSpec) {
    // SAFETY: a NUL-terminated text in the arena; the kernel reads up to 16 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, plan.title.as_ptr()) };
}

/// What `ps` shows.
pub fn write_title(plan: &SupervisorSpec) {
    let (start, length) = (plan.arguments.start, plan.arguments.length());
    if start == 0 || length == 0 {
        return;
    }
    // SAFETY: the kernel told that this process's command line is here, in writable memory at the bottom
    // of the first thread's stack, which this process keeps. No reference to it exists, and nobody else
    // runs in this process.
    let place = unsafe { slice::from_raw_parts_mut(start as *mut u8, length) };
    let title = plan.title.as_c_str().to_bytes();
    // What is longer is cut off, and one NUL stays: without it the kernel would show what follows, too.
    let room = place.len() - 1;
    let title = title.get(..room).unwrap_or(title);
    let shown = place
        .iter_mut()
        .zip(title.iter().copied().chain(iter::repeat(0)));
    shown.for_each(|(place, byte)| *place = byte);
}

/// The parent may rewrite all its memory: whatever this process still has of it would then be kept
/// for this process alone.
pub fn drop_memory(plan: &SupervisorSpec) {
    // SAFETY: the array of that many ranges is in the arena, and nobody changes it.
    let ranges = unsafe { slice::from_raw_parts(plan.dispensable, plan.dispensable_count) };
    for range in ranges {
        // SAFETY: the range was private memory of the parent without a file behind it, that holds
        // neither this stack and plan (the arena), nor the libc's data of this thread. The code that
        // runs from here on uses nothing else: no heap, no other thread's stack.
        let _ = unsafe { munmap(range.start as *mut libc::c_void, range.end - range.start) };
    }
}
