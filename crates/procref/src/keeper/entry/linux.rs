//! The steps of a new keeper that Linux makes in its own way.

#![expect(unsafe_code, reason = "fork and getauxval have no safe wrapper")]

use super::{exit, start};

/// Sets the name of this process to the beginning of its command line, `procref: NAME`.
pub(super) fn name_process() {
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let title = line.split(|&byte| byte == 0).next().unwrap_or_default();
    // The kernel cuts a longer name.
    let _ = std::fs::write("/proc/self/comm", title);
}

/// Returns `true` if the program has more rights than the user who executed it. Such a program must not obey the
/// environment.
pub(super) fn is_privileged() -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Continues in a child that the starter does not have to reap.
pub(super) fn detach() {
    // SAFETY: no other thread exists before `main`, so the child may use all of its memory.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => exit(start::FAILED),
        _ => exit(0),
    }
}
