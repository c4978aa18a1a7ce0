//! The sessions of this process with keepers.
//!
//! A keeper remembers the last change of each session as long as the process lives. So a process does not begin a new
//! session for each object that it opens: it uses a nonce again after the object that used it was dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::channel::Channel;
use crate::process::fork_epoch;
use crate::runtime::process_local;

/// The session of one process on one open object. A forked child has its own.
pub(super) struct Session {
    epoch: u64,
    nonce: u64,
    channel: Mutex<Option<Channel>>,
    /// The session of a child of this process.
    child: OnceLock<Box<Session>>,
}

impl Session {
    pub(super) fn new() -> Self {
        let mut nonces = nonces();
        Self {
            epoch: fork_epoch(),
            nonce: nonces.pop().unwrap_or_else(random_nonce),
            channel: Mutex::default(),
            child: OnceLock::new(),
        }
    }

    /// Returns the session of the calling process.
    pub(super) fn own(&self) -> &Self {
        let epoch = fork_epoch();
        let mut session = self;
        while session.epoch != epoch {
            session = session.child.get_or_init(|| Box::new(Self::new()));
        }
        session
    }

    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Returns the connection, and excludes other changes of this session while the guard exists.
    pub(super) fn channel(&self) -> MutexGuard<'_, Option<Channel>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.epoch == fork_epoch() {
            nonces().push(self.nonce);
        }
    }
}

/// Returns the number of a change. Later changes of this process have higher numbers.
pub(super) fn next_seq() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);

    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns the nonces that no session uses.
fn nonces() -> MutexGuard<'static, Vec<u64>> {
    let nonces = &process_local::get().nonces;
    nonces.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a nonce. Two copies of procref in one process, and two programs that one process executes, have different
/// nonces.
fn random_nonce() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    // The standard library seeds this with random numbers of the operating system.
    RandomState::new().hash_one(std::process::id()).max(1)
}
