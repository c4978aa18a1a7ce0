//! The parent of a service's processes on macOS, which has no subreapers.

/// `true` if each process of the service that loses its parent is reparented to this process.
pub(super) const IS_SUBREAPER: bool = false;

/// The flags for waitpid(2).
pub(super) const WAIT_FLAGS: libc::c_int = libc::WNOHANG;

/// Returns `false`: the list of the service's processes contains no keepers.
pub(super) fn is_supervisor(_pid: i32) -> bool {
    false
}
