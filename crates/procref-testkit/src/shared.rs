//! The state that a scene shares with its actors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::key::Key;
use crate::observe::Identity;

/// The paths of this package's programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) actor: PathBuf,
    pub(crate) service: PathBuf,
}

/// The state that a scene shares with its actors.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: TempDir,
    pub(crate) programs: Programs,
    /// Every process that was started or forked for the test.
    pub(crate) processes: Mutex<Vec<Identity>>,
    /// The bystanders. They are reaped at the end, because a test may need a zombie.
    pub(crate) bystanders: Mutex<Vec<Child>>,
    /// Name and runtime directory of every service that was built, by the key of its kernel object.
    pub(crate) keys: Mutex<BTreeMap<Key, (String, PathBuf)>>,
    pub(crate) counter: AtomicU32,
}

impl Shared {
    /// A path in the scene that was not used before.
    pub(crate) fn fresh_path(&self, stem: &str, suffix: &str) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.root.path().join(format!("{stem}-{number}.{suffix}"))
    }
}

/// Locks a mutex, even if a failed test has panicked while it held the lock. The cleanup after such a test
/// also needs the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
