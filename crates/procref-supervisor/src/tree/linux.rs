//! The parent of a service's processes on Linux: a subreaper.

use crate::process::SignalSafeProcess;

/// `true` if each process of the service that loses its parent is reparented to this process.
pub(super) const IS_SUBREAPER: bool = true;

/// The flags for waitpid(2), which also finds children without an exit signal.
pub(super) const WAIT_FLAGS: libc::c_int = libc::WNOHANG | libc::__WALL;

/// Makes this process the parent of every process below it that loses its own parent.
pub fn become_subreaper() {
    // SAFETY: no pointers are passed, and the setting concerns this process alone.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Returns `true` if the child is a supervisor of another service.
pub(super) fn is_supervisor(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(SignalSafeProcess::is_supervisor)
}
