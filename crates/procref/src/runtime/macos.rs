//! Threads: their ids, and the size of thread-local data on a new thread's stack.

#![expect(unsafe_code, reason = "the id of a thread, and the facts about it")]

use std::mem;

/// Returns the lower half of this thread's id. No process starts so many threads that two living ones have the same.
pub(super) fn thread_id() -> u32 {
    let mut id = 0_u64;
    // SAFETY: without a thread, the call writes the id of the calling one to `id`, which is borrowed by nothing else.
    unsafe { libc::pthread_threadid_np(0, &raw mut id) };
    id as u32
}

/// Returns `true` if a thread of this process may have this id.
pub(super) fn is_thread_alive(id: u32) -> bool {
    // Ids count up from the start of the system. So the upper half is that of this thread, or one less.
    let mut own = 0_u64;
    // SAFETY: as in `thread_id`, the call writes to `own`.
    unsafe { libc::pthread_threadid_np(0, &raw mut own) };
    let upper = own & !u64::from(u32::MAX);
    let candidates = [
        upper | u64::from(id),
        upper.wrapping_sub(1 << 32) | u64::from(id),
    ];
    candidates.into_iter().any(is_listed)
}

/// Returns `true` if a thread of this process has this id.
fn is_listed(id: u64) -> bool {
    /// `PROC_PIDTHREADID64INFO` of `sys/proc_info.h`.
    const THREAD_BY_ID: libc::c_int = 15;

    let size = mem::size_of::<libc::proc_threadinfo>() as libc::c_int;
    // SAFETY: all fields are integers, for which zeros are valid values.
    let mut info: libc::proc_threadinfo = unsafe { mem::zeroed() };
    let pid = std::process::id() as libc::c_int;
    // SAFETY: the call writes at most `size` bytes to `info`, which is borrowed by nothing else.
    let written =
        unsafe { libc::proc_pidinfo(pid, THREAD_BY_ID, id, (&raw mut info).cast(), size) };
    written == size
}

/// Returns 0: macOS does not place thread-local data on the stack.
pub(super) fn thread_data_size() -> usize {
    0
}

// The size in Apple's headers: see `scripts/macos/abi.c`.
const _: () = assert!(size_of::<libc::proc_threadinfo>() == 112);
