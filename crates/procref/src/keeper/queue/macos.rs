//! The event queue of macOS: kqueue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use procref_supervisor::kqueue::{self, Event, Source};
use rustix::io::Errno;

use super::ROUND;
use crate::descriptor;

/// A queue that reports which descriptors can be read.
pub(in crate::keeper) struct EventQueue(OwnedFd);

impl EventQueue {
    pub(in crate::keeper) fn new() -> io::Result<Self> {
        Ok(Self(kqueue::new()?))
    }

    /// Adds a descriptor, which is reported by this number. It leaves the queue when it is closed.
    pub(in crate::keeper) fn add(&self, fd: impl AsFd, number: u64) -> io::Result<()> {
        Ok(kqueue::add(&self.0, Source::Readable(fd.as_fd()), number)?)
    }

    /// Waits until a descriptor can be read, at most `limit`. Replaces `ready` by the numbers of those that can be read. A
    /// signal ends the wait early.
    pub(in crate::keeper) fn wait(
        &self,
        ready: &mut Vec<u64>,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        ready.clear();
        match kqueue::wait(&self.0, &mut [Event::BLANK; ROUND], limit) {
            Ok(events) => ready.extend(events.iter().map(Event::token)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Wakes the serving thread.
pub(in crate::keeper) struct Waker {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Waker {
    pub(in crate::keeper) fn new() -> io::Result<Self> {
        let (reader, writer) = descriptor::pipe()?;
        for end in [&reader, &writer] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok(Self { reader, writer })
    }

    /// Returns the descriptor that can be read after [`wake`](Self::wake).
    pub(in crate::keeper) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    pub(in crate::keeper) fn wake(&self) {
        // A full pipe can be read, too.
        let _ = rustix::io::write(&self.writer, &[1]);
    }

    pub(in crate::keeper) fn clear(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.reader, &mut bytes) == Ok(bytes.len()) {}
    }
}
