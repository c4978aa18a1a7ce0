//! Reports of writes to the log on macOS, in the event queue of the keeper.

use core::sync::atomic::{AtomicI32, Ordering};

use rustix::fd::{AsRawFd as _, BorrowedFd, RawFd};

use super::log;
use crate::kqueue::{self, Source};
use crate::prepared::Text;

/// The descriptor of the queue, or a negative number.
static QUEUE: AtomicI32 = AtomicI32::new(-1);

/// Makes the log report writes to this queue. When it reports an [event](kqueue::Event::is_write), the owner of the
/// queue calls [`note_write`](super::note_write).
pub fn report_writes_to(queue: BorrowedFd<'static>) {
    QUEUE.store(queue.as_raw_fd(), Ordering::Relaxed);
}

/// The kernel's means of reporting a write.
pub(super) struct WriteReports {
    /// `None` if this process has no queue.
    queue: Option<BorrowedFd<'static>>,
}

impl WriteReports {
    /// Watches the log, which is found by its descriptor.
    pub(super) fn new(_dir: Text) -> Self {
        let number: RawFd = QUEUE.load(Ordering::Relaxed);
        // SAFETY: `report_writes_to` has got a descriptor that stays open.
        let queue = (number >= 0).then(|| unsafe { BorrowedFd::borrow_raw(number) });
        Self { queue }
    }

    /// Returns `true` if writes are reported.
    pub(super) fn are_available(&self) -> bool {
        self.queue.is_some()
    }

    /// Returns `true` if no writes to other files are reported.
    pub(super) fn are_exact(&self) -> bool {
        true
    }

    /// Arms the report of the next write.
    pub(super) fn arm(&self) {
        if let Some(queue) = self.queue {
            // If the kernel refuses it, the clients that join limit the log.
            let _ = kqueue::add(queue, Source::NextWrite(log()), 0);
        }
    }

    /// Does nothing: the owner of the queue has taken the report from it.
    pub(super) fn drain(&self) {}
}
