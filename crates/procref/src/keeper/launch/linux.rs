//! The launch of a service on Linux.

use std::io;
use std::os::fd::OwnedFd;

use procref_supervisor::calls::fork_here;
use procref_supervisor::crash;
use procref_supervisor::prepared::Program;
use procref_supervisor::tree::become_subreaper;

use crate::kernel::counted::order::LaunchOrder;
use crate::process::Identity;

/// Forks the process of the service, with the resource limits of its starter. Returns its pid, and a negative number on
/// failure.
pub(super) fn fork(program: &Program, order: &LaunchOrder) -> libc::c_long {
    become_subreaper();
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let is_spared = crash::is_thread_spared();
    match fork_here() {
        0 => {
            if is_spared {
                crash::disarm();
            }
            program.run(parent, || order.set_limits())
        }
        pid => pid,
    }
}

/// Returns the pidfd of the starter, which came with the order.
#[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
pub(super) fn watch_starter(received: Option<OwnedFd>, _: Identity) -> io::Result<Option<OwnedFd>> {
    Ok(received)
}
