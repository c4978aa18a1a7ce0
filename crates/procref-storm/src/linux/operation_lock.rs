//! A lock that shows whether any client is in the middle of an operation.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::linux::service::Service;

/// A lock that each client shares during an operation. While the runner has the lock exclusively, no operation
/// is in progress.
pub struct OperationLock {
    _locked: File,
}

impl OperationLock {
    /// The file that is locked.
    pub fn path(root: &Path) -> PathBuf {
        root.join("operations")
    }

    /// Locks for one operation.
    pub fn shared(service: &Service) -> io::Result<Self> {
        Self::lock(&service.runtime_dir(), FlockOperation::LockShared)
    }

    /// Locks when no operation is in progress. Fails after `limit`.
    pub fn exclusive(runtime_dir: &Path, limit: Duration) -> io::Result<Self> {
        let dir = runtime_dir.to_owned();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(Self::lock(&dir, FlockOperation::LockExclusive));
        });
        receiver
            .recv_timeout(limit)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn lock(runtime_dir: &Path, operation: FlockOperation) -> io::Result<Self> {
        let root = runtime_dir.parent().unwrap_or(runtime_dir);
        // Every process first takes a second lock, the turnstile, for a short time. Without the turnstile, an
        // exclusive locker could wait indefinitely for clients that share the lock.
        let turnstile = open(&root.join("turnstile"))?;
        flock(&turnstile, operation)?;
        let operations = open(&Self::path(root))?;
        flock(&operations, operation)?;
        Ok(Self {
            _locked: operations,
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}
