//! A number that identifies a process among its forked children.

#![expect(unsafe_code, reason = "pthread_atfork has no safe wrapper")]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Returns a number that changes when the process forks. Equal numbers mean the same process.
///
/// The C library runs a handler in each child. macOS has no stable fork call that runs no handlers. A child that shares
/// the memory of its parent (`vfork`) sees no change, but such a child may only call `exec`.
pub(crate) fn fork_epoch() -> u64 {
    static REGISTERED: Once = Once::new();

    // Before the first call, no value contains an epoch.
    REGISTERED.call_once(|| {
        // SAFETY: `begin_epoch` is async-signal-safe and lives as long as the program. If the library that contains it is
        // unloaded, dyld removes the handler.
        unsafe { libc::pthread_atfork(None, None, Some(begin_epoch)) };
    });
    EPOCH.load(Ordering::Relaxed)
}

/// A child inherits the number, so all lower ones belong to its ancestors.
extern "C" fn begin_epoch() {
    EPOCH.fetch_add(1, Ordering::Relaxed);
}
