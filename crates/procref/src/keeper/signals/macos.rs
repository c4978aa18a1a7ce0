//! The event queue of a keeper's service on macOS.
//!
//! It reports SIGCHLD, writes to the log, and the exits of the service's processes that are no children of the keeper.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use procref_supervisor::kqueue::{self, Event, Source};
use procref_supervisor::log;

/// The greatest number of events that one call takes from the queue.
const ROUND: usize = 16;

/// The queue, which stays open as long as this process lives.
static QUEUE: OnceLock<OwnedFd> = OnceLock::new();

/// Returns a descriptor that is readable when there is an event.
pub(in crate::keeper) fn open() -> io::Result<OwnedFd> {
    let queue = kqueue::new()?;
    kqueue::add(&queue, Source::Signal(libc::SIGCHLD), 0)?;
    let queue = QUEUE.get_or_init(|| queue);
    log::report_writes_to(queue.as_fd());
    queue.try_clone()
}

/// Makes the exit of a process an event.
pub(in crate::keeper) fn watch_member(pid: u32) {
    if let Some(queue) = QUEUE.get() {
        // A process that has begun to exit is in no later list.
        let _ = kqueue::add(queue, Source::Exit(pid), 0);
    }
}

/// Takes the events. Records a write to the log.
pub(in crate::keeper) fn take(queue: impl AsFd) {
    loop {
        let mut events = [Event::BLANK; ROUND];
        let Ok(events) = kqueue::wait(&queue, &mut events, Some(Duration::ZERO)) else {
            return;
        };
        if events.iter().any(Event::is_write) {
            log::note_write();
        }
        if events.len() < ROUND {
            return;
        }
    }
}
