//! The data that the serving thread of a keeper shares with its supervisors.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::object::Object;
use super::queue::Waker;
use crate::crash::{self, Point};
use crate::kernel::counted::ledger::Ledger;
use crate::kernel::counted::mapped::Mapped;
use crate::kernel::counted::sys::{self, FileId};
use crate::kernel::counted::wire::Reply;
use crate::process::Identity;

/// The files of a keeper.
pub(super) struct Files {
    pub(super) state: PathBuf,
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

    /// Returns `true` unless another program has removed or replaced the state file.
    pub(super) fn exist(&self) -> bool {
        sys::leads_to(&self.state, self.id)
    }

    /// Unlinks the state file and the socket. This process has the lock, so no other keeper has files at these paths. If
    /// the state file was removed before, the socket may be that of another keeper.
    pub(super) fn unlink(&self) {
        if self.exist() {
            let _ = fs::remove_file(&self.socket);
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
    /// A supervisor waits until the deaths before this notice are handled.
    AwaitsDeaths,
    /// The thread of the supervisor ends.
    Ended,
}

/// The object, and the means by which its users wake each other.
pub(super) struct Shared {
    pub(super) own: Identity,
    pub(super) files: Files,
    object: Mutex<Object<Mapped>>,
    changed: Condvar,
    notices: Mutex<Vec<Notice>>,
    /// Readable when there are notices.
    event: Waker,
    /// The number of signals that this process has received.
    signals: AtomicU64,
    /// The number of supervisors that have begun to wait for deaths, and the number of those that need not wait any more.
    death_waits: [AtomicU64; 2],
    /// Held by the supervisor that has launched the service, as long as it may have children.
    tree: Mutex<()>,
}

impl Shared {
    pub(super) fn new(own: Identity, files: Files, ledger: Ledger<Mapped>) -> io::Result<Self> {
        Ok(Self {
            own,
            files,
            object: Mutex::new(Object::new(ledger)),
            changed: Condvar::new(),
            notices: Mutex::default(),
            event: Waker::new()?,
            signals: AtomicU64::new(0),
            death_waits: [const { AtomicU64::new(0) }; 2],
            tree: Mutex::default(),
        })
    }

    pub(super) fn object(&self) -> MutexGuard<'_, Object<Mapped>> {
        self.object.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the object, and wakes the supervisors that sleep for the change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Ledger<Mapped>) -> T) -> T {
        let changed = self.object().change(change);
        self.wake_supervisors();
        changed
    }

    /// Removes the object and its files. A client that opens the object after that creates another one.
    pub(super) fn remove(&self) {
        self.change(|ledger| ledger.remove(now()));
        crash::point(Point::ObjectRemoved);
        self.files.unlink();
        crash::point(Point::FilesUnlinked);
    }

    /// Sleeps until the object changes, at most `limit`. Another thread may have reverted the change.
    pub(super) fn wait_changed<'a>(
        &self,
        object: MutexGuard<'a, Object<Mapped>>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Object<Mapped>> {
        match limit {
            None => self
                .changed
                .wait(object)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.changed.wait_timeout(object, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Wakes the supervisors, so that they check what they wait for.
    pub(super) fn wake_supervisors(&self) {
        self.changed.notify_all();
    }

    /// Returns the number of signals that this process has received.
    pub(super) fn signals(&self) -> u64 {
        self.signals.load(Ordering::SeqCst)
    }

    /// Counts a signal, and ends the sleeps that it must end.
    pub(super) fn note_signal(&self) {
        self.signals.fetch_add(1, Ordering::SeqCst);
        // A supervisor that has read the old number holds the lock until it sleeps, so this wakes it.
        drop(self.object());
        self.wake_supervisors();
    }

    /// Sleeps until there are more than `seen` signals, at most `limit`. Returns their number.
    pub(super) fn wait_signal(&self, seen: u64, limit: Duration) -> u64 {
        let deadline = Instant::now().checked_add(limit);
        let mut object = self.object();
        loop {
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
            if self.signals() != seen || left == Some(Duration::ZERO) {
                return self.signals();
            }
            object = self.wait_changed(object, left);
        }
    }

    /// Waits until the serving thread has handled all deaths that the kernel has reported before this call.
    pub(super) fn await_deaths(&self) {
        let [begun, done] = &self.death_waits;
        let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.notify(Notice::AwaitsDeaths);
        let mut object = self.object();
        while done.load(Ordering::SeqCst) < number {
            object = self.wait_changed(object, None);
        }
    }

    /// Handles deaths by this function, for the supervisors that wait for it.
    pub(super) fn handle_deaths(&self, handle: impl FnOnce()) {
        let [begun, done] = &self.death_waits;
        let number = begun.load(Ordering::SeqCst);
        handle();
        done.store(number, Ordering::SeqCst);
        // See `note_signal`.
        drop(self.object());
        self.wake_supervisors();
    }

    /// Waits until no supervisor has children, and excludes the others as long as the guard exists.
    pub(super) fn tree(&self) -> MutexGuard<'_, ()> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`tree`](Self::tree), but returns `None` if a supervisor may have children.
    pub(super) fn try_tree(&self) -> Option<MutexGuard<'_, ()>> {
        self.tree.try_lock().ok()
    }

    pub(super) fn notices_fd(&self) -> BorrowedFd<'_> {
        self.event.fd()
    }

    /// Sends a notice to the serving thread.
    pub(super) fn notify(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.push(notice);
        self.event.wake();
    }

    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        self.event.clear();
        std::mem::take(&mut *notices)
    }
}

/// Returns the time in seconds since the Unix epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
