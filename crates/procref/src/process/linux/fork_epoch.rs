//! A number that identifies a process among its forked children.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Returns a number that changes when the process forks. Equal numbers mean the same process.
///
/// Comparing pids would cost a system call each time, and a descendant could have a reused pid. A
/// `pthread_atfork` handler does not run after a raw `clone`. So the kernel marks the child: it clears one
/// page in every child (`MADV_WIPEONFORK`, Linux 4.14), and a child that finds 0 there takes the next number.
/// A child that shares the memory of its parent (`vfork`) sees no change, but such a child may only call
/// `exec`.
pub(crate) fn fork_epoch() -> u64 {
    static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);

    let Some(page) = PAGE.get_or_init(wiped_on_fork) else {
        return std::process::id().into();
    };
    let epoch = page.load(Ordering::Relaxed);
    if epoch != 0 {
        return epoch;
    }
    // A child inherits NEXT, so all lower numbers are taken by its ancestors.
    let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
    match page.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => fresh,
        Err(another_thread) => another_thread,
    }
}

#[expect(unsafe_code, reason = "a page that the kernel wipes on fork")]
fn wiped_on_fork() -> Option<&'static AtomicU64> {
    const LENGTH: usize = size_of::<AtomicU64>();
    // SAFETY: the call chooses the address, so it replaces no existing mapping. The new mapping is anonymous and
    // private.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            LENGTH,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }
    .ok()?;
    // SAFETY: the range is the mapping made above, and no reference to it exists yet. The advice changes only what
    // children find there. If the call fails, the page stays mapped and unused.
    unsafe { rustix::mm::madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the mapping is aligned to a page, has at least 8 zeroed bytes and is never unmapped. All access is
    // through this atomic.
    Some(unsafe { AtomicU64::from_ptr(page.cast()) })
}
