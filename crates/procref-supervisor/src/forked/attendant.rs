//! The process between a starter and its supervisor, for as long as the supervisor is not in place.
//!
//! A starter learns that its supervisor has died from the end of a pipe. But a process that another thread of the
//! starter has forked has a copy of that pipe, and as long as it lives the pipe does not end. The attendant is the
//! supervisor's parent, so it learns of the death whatever was forked, and reports it together with its cause.

#![expect(unsafe_code, reason = "waitpid and prctl without the libc's state")]

use super::calls::{drop_memory, exit, write};
use crate::calls::{close_from, last_errno};
use crate::channel::Message;
use crate::prepared::SupervisorSpec;

/// Where an attendant has its end of the pipe.
const REPORT: libc::c_int = 0;

/// Makes the kernel kill this process when the thread of its parent ends that has forked it. Returns `false` if the
/// parent is dead already.
pub fn ends_with(parent: libc::pid_t) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: no pointers are passed.
    let now = unsafe { libc::getppid() };
    now == parent
}

/// Waits for the supervisor's end, and reports it. A supervisor that is in place is not attended any more.
///
/// The attendant ends with its starter only from here on. If it did before it has forked the supervisor, a starter that
/// is killed in between would leave its set with no process to remove it.
pub fn attend(plan: &SupervisorSpec, child: libc::c_long) -> ! {
    if !ends_with(plan.starter) {
        exit();
    }
    let Some(child) = libc::pid_t::try_from(child).ok().filter(|&child| child > 0) else {
        write(plan.ready, &Message::ForkFailed(last_errno()).encode());
        exit();
    };
    // SAFETY: no pointers are passed. What has that number is the starter's, and of no use here.
    unsafe { libc::dup2(plan.ready, REPORT) };
    close_from(REPORT + 1);
    drop_memory(plan);
    let mut status = 0;
    loop {
        // SAFETY: `status` is an integer that the call fills.
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
