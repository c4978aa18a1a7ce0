use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::task::Wake;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{self, Errno};

use crate::error::Failure;

/// A signal that stays raised.
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> Result<Self, Failure> {
        new_event().map(Self)
    }

    /// Raises the signal. This is async-signal-safe, and rustix makes the system call without `errno`.
    pub(crate) fn raise(&self) {
        raise(&self.0);
    }

    pub(crate) fn is_raised(&self) -> Result<bool, Failure> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll_fds(&mut fds, Some(Duration::ZERO)).map(|ready| ready > 0)
    }
}

/// A thread that sleeps until a waker or a signal wakes it.
pub(crate) struct Sleep(OwnedFd);

impl Sleep {
    pub(crate) fn new() -> Result<Self, Failure> {
        new_event().map(Self)
    }

    /// Returns at a wake-up, at the signal, after `limit`, or without a reason.
    pub(crate) fn until_woken(
        &self,
        signal: Option<&Signal>,
        limit: Option<Duration>,
    ) -> Result<(), Failure> {
        let woken = PollFd::new(&self.0, PollFlags::IN);
        match signal {
            Some(signal) => poll_fds(&mut [woken, PollFd::new(&signal.0, PollFlags::IN)], limit)?,
            None => poll_fds(&mut [woken], limit)?,
        };
        // Resets the counter. If no waker has raised it, this fails with EAGAIN.
        let _ = io::read(self.0.as_fd(), &mut [0; 8]);
        Ok(())
    }
}

impl Wake for Sleep {
    fn wake(self: Arc<Self>) {
        raise(&self.0);
    }
}

fn raise(event: &OwnedFd) {
    // The write fails only if the counter is at its maximum, and then it is already raised.
    let _ = io::write(event, &1_u64.to_ne_bytes());
}

fn new_event() -> Result<OwnedFd, Failure> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| failure("create an eventfd", error))
}

/// Waits for one of the descriptors. A signal handler of the caller may interrupt the wait, and that is not an error.
fn poll_fds(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<usize, Failure> {
    // A limit that the kernel cannot represent does not expire.
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, limit.as_ref()) {
        Ok(ready) => Ok(ready),
        Err(Errno::INTR) => Ok(0),
        Err(error) => Err(failure("wait for an eventfd", error)),
    }
}

fn failure(operation: &str, error: Errno) -> Failure {
    let error = std::io::Error::from(error);
    Failure::system(format!("could not {operation}: {error}"))
}
