//! The starter's side of the process between it and its supervisor.

#![expect(unsafe_code, reason = "waitpid for a child that sends no signal")]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::supervisor::receive;
use procref_supervisor::channel::Message;

/// The starter's child that is its supervisor's parent. Ended when this is dropped; the supervisor goes on.
pub(crate) struct Attendant {
    child: libc::pid_t,
    /// `None`: there are no pidfds.
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

    /// Receives the next message of the supervisor, or of the attendant about it.
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
        // Not reaped yet. Only a host that waits for children of any kind (`__WALL`) may have done that, and then the pid
        // can be another process's. The pidfd cannot.
        let killed = match (&self.pidfd, Pid::from_raw(self.child)) {
            (Some(pidfd), _) => rustix::process::pidfd_send_signal(pidfd, Signal::KILL),
            (None, Some(pid)) => rustix::process::kill_process(pid, Signal::KILL),
            (None, None) => Ok(()),
        };
        // It may have ended by itself.
        let _ = killed;
        loop {
            // SAFETY: no status is asked for; `__WALL` finds a child that sends no signal.
            let reaped = unsafe { libc::waitpid(self.child, ptr::null_mut(), libc::__WALL) };
            if reaped != -1 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return;
            }
        }
    }
}
