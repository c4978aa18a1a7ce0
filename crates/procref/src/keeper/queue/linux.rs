//! The event queue of Linux: epoll.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

use super::ROUND;

/// A queue that reports which descriptors can be read.
pub(in crate::keeper) struct EventQueue(OwnedFd);

impl EventQueue {
    pub(in crate::keeper) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor, which is reported by this number. It leaves the queue when it is closed.
    pub(in crate::keeper) fn add(&self, fd: impl AsFd, number: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        Ok(epoll::add(&self.0, fd, data, epoll::EventFlags::IN)?)
    }

    /// Waits until a descriptor can be read, at most `limit`. Replaces `ready` by the numbers of those that can be read. A
    /// signal ends the wait early.
    pub(in crate::keeper) fn wait(
        &self,
        ready: &mut Vec<u64>,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        });
        ready.clear();
        let mut events = [MaybeUninit::uninit(); ROUND];
        match epoll::wait(&self.0, &mut events, limit.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Wakes the serving thread.
pub(in crate::keeper) struct Waker(OwnedFd);

impl Waker {
    pub(in crate::keeper) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags)?))
    }

    /// Returns the descriptor that can be read after [`wake`](Self::wake).
    pub(in crate::keeper) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(in crate::keeper) fn wake(&self) {
        // The counter of the event cannot overflow before it is read.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(in crate::keeper) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
