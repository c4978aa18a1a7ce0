//! The starter's end of the pipe from a supervisor.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use procref_supervisor::channel::Message;
use procref_supervisor::process::poll_limit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error;
use crate::kernel::{Ended, exit_status};

/// Returns the error for a message that a supervisor sends when it cannot be registered or cannot launch the service.
pub(crate) fn not_registered(message: Message) -> io::Error {
    match message {
        Message::ForkFailed(errno) => io::Error::from_raw_os_error(errno),
        Message::Blocked => io::ErrorKind::TimedOut.into(),
        Message::SupervisorKilled(signal) => {
            // The numbers of all signals fit into 8 bits.
            let status = exit_status(Ended::Killed(signal as u8));
            let advice = match signal {
                libc::SIGSYS => " (a sandbox does not allow one of its system calls)",
                libc::SIGKILL => " (by a user, or because memory ran out)",
                _ => "",
            };
            io::Error::other(format!("it {}{advice}", error::exit_clause(status)))
        }
        _ => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it exited before it was registered",
        ),
    }
}

/// The result of reading a supervisor's pipe.
pub(crate) enum Received {
    Message(Message),
    /// The supervisor has exited, and all of its messages are read.
    End,
    /// No message arrived before the deadline.
    Late,
}

/// Reads the next message. `process` is a descriptor that is readable when the writer has exited.
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
        // The pipe is checked after `process`, because a process writes its last message before it exits.
        if !readable(pipe.as_fd(), Some(Instant::now()))? {
            return Ok(Received::End);
        }
        let mut bytes = [0; Message::SIZE];
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return Ok(Received::End),
            Ok(_) => {
                // Other bytes mean that the supervisor is broken.
                let message = Message::decode(bytes);
                return Ok(message.map_or(Received::End, Received::Message));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the descriptor is readable or the other end is closed. Returns `false` if the deadline passes
/// before that. Without a deadline, waits indefinitely.
pub(crate) fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    any_readable(&[fd], deadline)
}

/// Waits like [`readable`], for any of several descriptors.
pub(crate) fn any_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = left.map(poll_limit);
        match poll(&mut fds, limit.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
