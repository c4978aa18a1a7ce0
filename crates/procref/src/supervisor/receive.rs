//! The starter's end of a supervisor's pipe.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error;
use crate::kernel::{Ended, exit_status};
use procref_supervisor::channel::Message;

/// Why a supervisor that says this is not in place.
pub(crate) fn not_registered(message: Message) -> io::Error {
    match message {
        Message::ForkFailed(errno) => io::Error::from_raw_os_error(errno),
        Message::Blocked => io::ErrorKind::TimedOut.into(),
        Message::SupervisorKilled(signal) => {
            // The kernel's signals fit.
            let status = exit_status(Ended::Killed(signal as u8));
            let advice = match signal {
                libc::SIGSYS => " (a sandbox does not allow one of its system calls)",
                libc::SIGKILL => " (by a person, or for want of memory)",
                _ => "",
            };
            io::Error::other(format!("it {}{advice}", error::ended(status)))
        }
        _ => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it ended before it was in place",
        ),
    }
}

/// What comes out of a supervisor's pipe.
pub(crate) enum Received {
    Message(Message),
    /// There is no supervisor any more, and nothing that it has not been heard of.
    End,
    /// Nothing before the deadline.
    Late,
}

/// The next message. `process` is readable when no message can come any more.
pub(crate) fn receive(
    pipe: &OwnedFd,
    process: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<Received> {
    let fds = [Some(pipe.as_fd()), process];
    let fds: Vec<_> = fds.into_iter().flatten().collect();
    loop {
        if !any_readable(&fds, deadline)? {
            return Ok(Received::Late);
        }
        // In this order: what a process has said before it ended is there when its end is seen.
        if !readable(pipe.as_fd(), Some(Instant::now()))? {
            return Ok(Received::End);
        }
        let mut bytes = [0; Message::SIZE];
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return Ok(Received::End),
            Ok(_) => {
                // What is no message says that something is wrong with the supervisor.
                let message = Message::decode(bytes);
                return Ok(message.map_or(Received::End, Received::Message));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether there is something to read, or the other end is closed, before the deadline. `None`: however
/// long that takes.
pub(crate) fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    any_readable(&[fd], deadline)
}

/// The same for several.
pub(crate) fn any_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut fds, limit.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
