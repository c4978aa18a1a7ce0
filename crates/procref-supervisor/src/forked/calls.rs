//! System calls that several of the processes after the fork make.

#![expect(
    unsafe_code,
    reason = "system calls, and unmapping the starter's memory"
)]

use core::{iter, slice};

use rustix::fd::RawFd;
use rustix::mm::munmap;

use crate::calls::exit_with;
pub(super) use crate::calls::{die_with_parent, write};
use crate::prepared::SupervisorSpec;
use crate::process::SignalSafeProcess;
use crate::state::Identity;

pub(super) fn exit() -> ! {
    exit_with(0)
}

/// Returns the identity of this process. Its start time is 0 if `/proc` cannot be read.
pub(super) fn own_identity() -> Identity {
    let pid = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let start = SignalSafeProcess::start_of(pid).unwrap_or(0);
    Identity { pid, start }
}

/// Closes a descriptor that this process does not use again.
pub(super) fn close(fd: RawFd) {
    // SAFETY: no pointers are passed. This process has its own descriptor table, and no `OwnedFd` of it has this
    // number.
    unsafe { libc::close(fd) };
}

/// Sets the name of this process. `top` shows the name, and procref recognizes supervisors by it.
pub(super) fn name_process(spec: &SupervisorSpec) {
    // SAFETY: `title` points to a NUL-terminated text in the arena, which this process keeps. The kernel reads up to
    // the NUL, and at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, spec.title.as_ptr()) };
}

/// Writes the title over the command line, which `ps` shows.
pub(super) fn write_title(spec: &SupervisorSpec) {
    let (start, length) = (spec.arguments.start, spec.arguments.length());
    if start == 0 || length == 0 {
        return;
    }
    // SAFETY: the kernel reported these addresses as the command line of the starter. They are on the first thread's
    // stack, in private writable memory that this process has a copy of and does not unmap. This process runs on
    // another stack, in the arena, has one thread, and keeps no reference to that memory.
    let shown = unsafe { slice::from_raw_parts_mut(start as *mut u8, length) };
    let title = spec.title.as_c_str().to_bytes();
    // A longer title is truncated. The last byte stays a NUL. Otherwise the kernel would also show the bytes
    // after the command line.
    let room = shown.len() - 1;
    let title = title.get(..room).unwrap_or(title);
    let padded = title.iter().copied().chain(iter::repeat(0));
    shown
        .iter_mut()
        .zip(padded)
        .for_each(|(shown, byte)| *shown = byte);
}

/// Unmaps the starter's memory that this process does not use.
///
/// Without this, the kernel would keep a copy of every page that the starter writes to later, only for this
/// process.
pub(super) fn unmap_dispensable(spec: &SupervisorSpec) {
    // SAFETY: the starter put `dispensable_count` ranges into the arena, at the address `dispensable`. This process
    // keeps the arena, and nothing writes to it.
    let ranges = unsafe { slice::from_raw_parts(spec.dispensable, spec.dispensable_count) };
    for range in ranges {
        // SAFETY: the range was private memory of the starter, with gaps in which nothing was mapped when the list was
        // made. It does not contain the arena (this stack and all
        // prepared data), the data of this thread that the libc uses (`errno`, the stack protector's value, the
        // thread descriptor), the shadow stack, or code and data of procref, of the libraries whose functions it
        // calls, or of the loader. The code that runs after this uses no other memory. It has no heap, and other
        // threads do not exist in this process.
        let _ = unsafe { munmap(range.start as *mut libc::c_void, range.end - range.start) };
    }
}
