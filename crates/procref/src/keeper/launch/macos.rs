//! The launch of a service on macOS.

use std::io;
use std::os::fd::OwnedFd;

use procref_supervisor::calls::fork_here;
use procref_supervisor::prepared::Program;
use procref_supervisor::process::SignalSafeProcess;

use crate::kernel::counted::order::LaunchOrder;
use crate::process::Identity;

/// Forks the process of the service, with the resource limits of its starter. Returns its pid, and a negative number on
/// failure.
pub(super) fn fork(program: &Program, order: &LaunchOrder) -> libc::c_long {
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    match fork_here() {
        // Until it executes the program, the child makes only system calls.
        0 => program.run(parent, || order.set_limits()),
        pid => pid,
    }
}

/// Returns a descriptor that is readable when the starter has exited.
pub(super) fn watch_starter(_: Option<OwnedFd>, starter: Identity) -> io::Result<Option<OwnedFd>> {
    let found = SignalSafeProcess::find(starter)?;
    let found = found.ok_or(io::ErrorKind::NotFound)?;
    Ok(Some(found.into_exit_fd()))
}
