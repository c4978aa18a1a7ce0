//! The launch of a service on Linux.

use std::io;
use std::os::fd::OwnedFd;

use procref_supervisor::calls::fork_here;
use procref_supervisor::crash;
use procref_supervisor::prepared::Program;
use procref_supervisor::tree::become_subreaper;
use rustix::process::prlimit;

use crate::kernel::counted::order::{LaunchOrder, RESOURCES};
use crate::process::Identity;

/// Forks the process of the service, with the resource limits of its starter. Returns its pid, and a negative number on
/// failure.
pub(super) fn fork(program: &Program, order: &LaunchOrder) -> libc::c_long {
    become_subreaper();
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let is_spared = crash::is_thread_spared();
    let pid = match fork_here() {
        0 => {
            if is_spared {
                crash::disarm();
            }
            program.run(parent)
        }
        pid => pid,
    };
    // The keeper has the limits of another client, and more descriptors. The child waits at its gate.
    let child = u32::try_from(pid)
        .ok()
        .and_then(procref_supervisor::process::to_pid);
    for (resource, limit) in RESOURCES.into_iter().zip(order.limits) {
        // A limit that this user cannot raise stays as it is.
        let _ = child.map(|child| prlimit(Some(child), resource, limit));
    }
    pid
}

/// Returns the pidfd of the starter, which came with the order.
#[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
pub(super) fn watch_starter(received: Option<OwnedFd>, _: Identity) -> io::Result<Option<OwnedFd>> {
    Ok(received)
}
