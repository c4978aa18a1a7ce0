//! The deaths of clients on macOS: by kqueue.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use procref_supervisor::kqueue::{self, Event, Source};

use super::{Identified, key};
use crate::process::{self, Identity};

/// The greatest number of deaths that one call takes from the queue.
const ROUND: usize = 64;

/// The processes whose exit a keeper must notice.
///
/// The kernel reports an exit before waitpid(2) in the parent can return, and does not report it to a queue that is created
/// later. A process that has begun to exit cannot be added (`ESRCH`).
pub(in crate::keeper) struct Watches {
    /// A queue that contains only processes, so that it can be read by itself.
    queue: OwnedFd,
    tokens: BTreeMap<Identified, u64>,
    processes: BTreeMap<u64, Identity>,
    next: u64,
}

impl Watches {
    pub(in crate::keeper) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: kqueue::new()?,
            tokens: BTreeMap::new(),
            processes: BTreeMap::new(),
            next: 0,
        })
    }

    pub(in crate::keeper) fn events(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Returns `None`: the queue reports every death.
    pub(in crate::keeper) fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Watches a process. Returns `false` if it has exited.
    pub(in crate::keeper) fn watch(&mut self, process: Identity) -> bool {
        if self.tokens.contains_key(&key(process)) {
            return true;
        }
        // The process is added before its start time is read. If the start time is right, the queue reports the exit of
        // this process. If another process has the pid, its exit is reported by a number that is in no list.
        let token = self.next;
        self.next += 1;
        let is_added = kqueue::add(&self.queue, Source::Exit(process.pid), token).is_ok();
        if !is_added || !process::is_identity_alive(process) {
            return false;
        }
        self.tokens.insert(key(process), token);
        self.processes.insert(token, process);
        true
    }

    /// Ignores the exit of a process. The kernel may still report it.
    pub(in crate::keeper) fn forget(&mut self, process: Identity) {
        if let Some(token) = self.tokens.remove(&key(process)) {
            self.processes.remove(&token);
        }
    }

    /// Returns the processes that have exited, and forgets them.
    pub(in crate::keeper) fn take_dead(&mut self) -> Vec<Identity> {
        let mut dead = Vec::new();
        loop {
            let mut events = [Event::BLANK; ROUND];
            let Ok(events) = kqueue::wait(&self.queue, &mut events, Some(Duration::ZERO)) else {
                return dead;
            };
            let reported = events.iter().map(Event::token);
            let found = reported.filter_map(|token| self.processes.get(&token).copied());
            let found: Vec<Identity> = found.collect();
            found.iter().for_each(|&process| self.forget(process));
            dead.extend(found);
            if events.len() < ROUND {
                return dead;
            }
        }
    }
}
