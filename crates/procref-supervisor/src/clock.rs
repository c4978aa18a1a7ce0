//! Monotonic time, without the standard library.

#![expect(unsafe_code, reason = "clock_gettime into a local variable")]

use core::time::Duration;

/// Returns the time since a fixed moment in the past, on a clock that no process can set.
pub fn now() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one `timespec` into `time`, which is alive and borrowed by nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    // The kernel writes no negative number for this clock.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
