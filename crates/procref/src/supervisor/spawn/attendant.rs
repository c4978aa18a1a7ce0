//! The starter's handle of the attendant, the process between the starter and its supervisor.

#![expect(unsafe_code, reason = "waitpid for a child that sends no signal")]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr;
use std::time::Instant;

use procref_supervisor::channel::Message;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::supervisor::receive;

/// The starter's child that is the parent of the supervisor. Dropping this value kills the attendant. The
/// supervisor continues.
pub(crate) struct Attendant {
    child: libc::pid_t,
    /// `None` if this kernel has no pidfds.
    pidfd: Option<OwnedFd>,
}

impl Attendant {
    pub(super) fn new(child: libc::pid_t) -> Self {
        let pid = Pid::from_raw(child);
        let open = |pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        Self {
            child,
            pidfd: pid.and_then(open),
        }
    }

    /// Receives the next message of the supervisor, or of the attendant about the supervisor.
    pub(crate) fn receive(
        &self,
        report: &OwnedFd,
        deadline: Option<Instant>,
    ) -> io::Result<Message> {
        let other = self.pidfd.as_ref().map(|fd| fd.as_fd());
        match receive::receive(report, other, deadline)? {
            receive::Received::Message(message) => Ok(message),
            receive::Received::End => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it was killed together with its parent process",
            )),
            receive::Received::Late => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        // The attendant is not reaped yet, unless the host program waits with `__WALL`. In that case, another
        // process may have the pid. A pidfd always refers to the attendant.
        let killed = match (&self.pidfd, Pid::from_raw(self.child)) {
            (Some(pidfd), _) => rustix::process::pidfd_send_signal(pidfd, Signal::KILL),
            (None, Some(pid)) => rustix::process::kill_process(pid, Signal::KILL),
            (None, None) => Ok(()),
        };
        // The attendant may have exited already.
        let _ = killed;
        loop {
            // SAFETY: the status pointer is null, so the call writes nothing. `__WALL` finds a child without exit
            // signal.
            let reaped = unsafe { libc::waitpid(self.child, ptr::null_mut(), libc::__WALL) };
            if reaped != -1 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return;
            }
        }
    }
}
