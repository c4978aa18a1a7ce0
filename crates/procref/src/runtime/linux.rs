//! Threads: their ids, and the size of thread-local data on a new thread's stack.

#![expect(
    unsafe_code,
    reason = "only the loader knows the programs and libraries"
)]

use std::fs;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns the id of this thread.
pub(super) fn thread_id() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// Returns `true` if a thread of this process has this id. The thread is not in the list any more when a fork does not
/// count it either.
pub(super) fn is_thread_alive(id: u32) -> bool {
    fs::symlink_metadata(format!("/proc/self/task/{id}")).is_ok()
}

/// Returns the size of the thread-local data that each thread starts with.
///
/// glibc places it in the memory of the thread's stack. If it is larger than the stack, no thread can be created. If
/// it is nearly as large, the thread has too little stack left.
pub(super) fn thread_data_size() -> usize {
    // The loader fixes this size when the program starts. One query also keeps forked children from waiting for the
    // loader's lock, which another thread may have held during the fork.
    static KNOWN: AtomicUsize = AtomicUsize::new(usize::MAX);

    let known = KNOWN.load(Ordering::Relaxed);
    if known != usize::MAX {
        return known;
    }
    let mut size = 0_usize;
    // SAFETY: `add_thread_data` has the type that the loader calls, and `size` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(add_thread_data), (&raw mut size).cast()) };
    KNOWN.store(size, Ordering::Relaxed);
    size
}

unsafe extern "C" fn add_thread_data(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    size: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader passes a description that is valid during this call.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: `dlpi_phdr` points to `dlpi_phnum` program headers, which the loader keeps during this call.
    let headers =
        unsafe { &*ptr::slice_from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers
        .iter()
        .filter(|header| header.p_type == libc::PT_TLS)
    {
        let needed = (header.p_memsz as usize).saturating_add(header.p_align as usize);
        // SAFETY: `size` points to the local variable of `thread_data_size`, which no other code uses during this
        // call.
        let size = unsafe { &mut *size.cast::<usize>() };
        *size = size.saturating_add(needed);
    }
    0
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const BIG: usize = 100_000;

    thread_local! {
        static DATA: [Cell<u8>; BIG] = const { [const { Cell::new(0) }; BIG] };
    }

    #[test]
    fn thread_data_size_includes_this_program() {
        // Without `black_box` the optimizer removes the data.
        DATA.with(|data| std::hint::black_box(data)[BIG - 1].set(1));
        assert!((BIG..BIG << 10).contains(&thread_data_size()));
        assert_eq!(thread_data_size(), thread_data_size());
    }
}
