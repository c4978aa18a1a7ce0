//! Wakers of the futures that wait for one event.

use std::collections::BTreeMap;
use std::task::Waker;

/// The wakers of the futures that wait for one event, at most one for each future.
///
/// Cloning, dropping or calling a waker may run foreign code, which must not happen with a lock held. So no
/// method does any of this. Each method returns the wakers that it removes, and the caller drops or wakes
/// them after it has released its lock.
#[derive(Default)]
pub(crate) struct Wakers {
    wakers: BTreeMap<u64, Waker>,
    last: u64,
}

impl Wakers {
    /// Returns a number for a future that begins to wait.
    pub(crate) fn register(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Keeps the waker of a future. Returns the waker that it replaces.
    #[must_use = "drop it after the lock is released"]
    pub(crate) fn insert(&mut self, number: u64, waker: Waker) -> Option<Waker> {
        self.wakers.insert(number, waker)
    }

    /// Returns the waker of a future that is dropped. Without this, the wakers of all cancelled futures would
    /// accumulate while an event takes days.
    #[must_use = "drop it after the lock is released"]
    pub(crate) fn remove(&mut self, number: u64) -> Option<Waker> {
        self.wakers.remove(&number)
    }

    /// Returns all wakers, to be woken.
    #[must_use = "wake them after the lock is released"]
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        if self.wakers.is_empty() {
            return Vec::new();
        }
        std::mem::take(&mut self.wakers).into_values().collect()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wakers.len()
    }
}
