//! The data that the serving thread of a keeper shares with its supervisors.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::event::{EventfdFlags, eventfd};

use crate::kernel::counted::ledger::Ledger;
use crate::kernel::counted::mapped::Mapped;
use crate::kernel::counted::sys::{self, FileId};
use crate::kernel::counted::wire::Reply;
use crate::process::Identity;

/// The files of a keeper.
pub(super) struct Files {
    state: PathBuf,
    /// The state file that this keeper has locked.
    id: FileId,
    pub(super) socket: PathBuf,
    dir: PathBuf,
    dir_id: FileId,
}

impl Files {
    pub(super) fn new(state: PathBuf, id: FileId, socket: PathBuf) -> io::Result<Self> {
        let dir = state.parent().unwrap_or(Path::new("/")).to_owned();
        let dir_id = sys::id_of(fs::File::open(&dir)?)?;
        Ok(Self {
            state,
            id,
            socket,
            dir,
            dir_id,
        })
    }

    /// Unlinks the state file and the socket. This process has the lock, so no other keeper has files at these paths.
    pub(super) fn unlink(&self) {
        let _ = fs::remove_file(&self.socket);
        if sys::leads_to(&self.state, self.id) {
            let _ = fs::remove_file(&self.state);
        }
    }

    /// Removes the files of this service with one of these endings. They have the digests of the state file in their
    /// names, after the name of the service: `NAME-DIGEST.NAMESPACE.json`.
    ///
    /// If another directory has the path now, its files belong to other services.
    pub(super) fn remove_service_files(&self, endings: &[&str]) {
        let Some(digests) = self.state.file_stem().and_then(|stem| stem.to_str()) else {
            return;
        };
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        if !sys::leads_to(&self.dir, self.dir_id) {
            return;
        }
        let infix = format!("-{digests}");
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str());
            let parts = name.and_then(|name| name.split_once(&infix));
            if parts.is_some_and(|(_, ending)| endings.contains(&ending)) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// A message of a supervisor to the serving thread.
pub(super) enum Notice {
    /// The object has changed.
    Changed,
    /// The supervisor that this client has started is counted, or has failed.
    Supervised { connection: u64, reply: Reply },
    /// The thread of the supervisor ends.
    Ended,
}

/// The ledger, and the means by which its users wake each other.
pub(super) struct Shared {
    pub(super) own: Identity,
    pub(super) files: Files,
    ledger: Mutex<Ledger<Mapped>>,
    changed: Condvar,
    notices: Mutex<Vec<Notice>>,
    /// Readable when there are notices.
    event: OwnedFd,
}

impl Shared {
    pub(super) fn new(own: Identity, files: Files, ledger: Ledger<Mapped>) -> io::Result<Self> {
        Ok(Self {
            own,
            files,
            ledger: Mutex::new(ledger),
            changed: Condvar::new(),
            notices: Mutex::default(),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger<Mapped>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the object and its files. A client that opens the object after that creates another one.
    pub(super) fn remove(&self) {
        self.ledger().remove(now());
        self.files.unlink();
    }

    /// Sleeps until the object changes, at most `limit`. Another thread may have reverted the change.
    pub(super) fn wait_changed<'a>(
        &self,
        ledger: MutexGuard<'a, Ledger<Mapped>>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Ledger<Mapped>> {
        match limit {
            None => self
                .changed
                .wait(ledger)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.changed.wait_timeout(ledger, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Wakes the supervisors, so that they retry their arrays.
    pub(super) fn wake_supervisors(&self) {
        self.changed.notify_all();
    }

    pub(super) fn notices_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Sends a notice to the serving thread.
    pub(super) fn notify(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.push(notice);
        // The counter of the event cannot overflow before it is read.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        std::mem::take(&mut *notices)
    }
}

/// Returns the time in seconds since the Unix epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
