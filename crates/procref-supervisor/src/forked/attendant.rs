//! The process between a starter and its supervisor, which exists until the supervisor has reported.
//!
//! EOF on the pipe shows a starter that its supervisor has died. But a process that another thread of the
//! starter has forked has a copy of that pipe, and there is no EOF while that process lives. The attendant is
//! the parent of the supervisor, so it always detects the death, and reports it together with the cause.

#![expect(unsafe_code, reason = "waitpid and dup2")]

use super::calls::{die_with_parent, exit, write};
use crate::calls::{close_from, last_errno};
use crate::channel::Message;
use crate::prepared::SupervisorSpec;

/// The attendant's descriptor of the pipe.
const REPORT: libc::c_int = 0;

/// Waits until the supervisor exits, and reports the cause. The starter kills the attendant after the
/// supervisor has reported.
///
/// The attendant dies with its starter only after this call. If it called this before the fork of the
/// supervisor, a death of the starter between the two would leave a set that no process removes.
pub(super) fn attend(spec: &SupervisorSpec, child: libc::c_long) -> ! {
    if !die_with_parent(spec.starter) {
        exit();
    }
    let Some(child) = libc::pid_t::try_from(child).ok().filter(|&child| child > 0) else {
        write(spec.ready, &Message::ForkFailed(last_errno()).encode());
        exit();
    };
    // SAFETY: no pointers are passed. Descriptor 0 was the starter's, and no code of this process uses it.
    unsafe { libc::dup2(spec.ready, REPORT) };
    close_from(REPORT + 1);
    let mut status = 0;
    loop {
        // SAFETY: the call writes one integer to `status`, which is alive and borrowed by nothing else.
        let reaped = unsafe { libc::waitpid(child, &raw mut status, libc::__WALL) };
        if reaped == child {
            break;
        }
        if last_errno() != libc::EINTR {
            exit();
        }
    }
    let message = if libc::WIFSIGNALED(status) {
        Message::SupervisorKilled(libc::WTERMSIG(status))
    } else {
        Message::SupervisorExited
    };
    write(REPORT, &message.encode());
    exit()
}
