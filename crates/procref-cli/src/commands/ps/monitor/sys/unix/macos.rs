//! Changes of files by kqueue.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use procref_supervisor::kqueue::{self, Event as Change, Source};
use rustix::fs::{Mode, OFlags};

use super::super::super::Event;

/// The tokens of the queue.
const DIRECTORY: u64 = 0;
const LOG: u64 = 1;

/// Watches the runtime directories and one log.
///
/// Without a queue, for example because no descriptor is free, the screen is updated only at its interval.
pub(in super::super::super) struct Changes {
    queue: Option<Arc<OwnedFd>>,
    /// The directories, which the queue watches as long as these descriptors are open.
    dirs: RefCell<HashMap<PathBuf, OwnedFd>>,
    log: Option<(PathBuf, OwnedFd)>,
}

impl Changes {
    pub(in super::super::super) fn new(events: Sender<Event>) -> Self {
        let queue = kqueue::new().ok().map(Arc::new);
        if let Some(queue) = queue.clone() {
            let thread = thread::Builder::new().name("procref: changes".to_owned());
            // An error has the same effect as a missing queue.
            let _ = thread.spawn(move || send_changes(&queue, &events));
        }
        Self {
            queue,
            dirs: RefCell::default(),
            log: None,
        }
    }

    /// Reports services that start or stop in this directory. Watching a directory again has no effect.
    pub(in super::super::super) fn watch_dir(&self, path: &Path) {
        let Some(queue) = &self.queue else {
            return;
        };
        let mut dirs = self.dirs.borrow_mut();
        if dirs.get(path).is_some_and(|dir| leads_to(path, dir)) {
            return;
        }
        dirs.remove(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The directory may be missing until its first service starts.
        if let Ok(dir) = rustix::fs::open(path, flags, Mode::empty()) {
            if kqueue::add(queue, Source::Directory(dir.as_fd()), DIRECTORY).is_ok() {
                dirs.insert(path.to_owned(), dir);
            }
        }
    }

    /// Reports writes to this log, and not to the one before.
    pub(in super::super::super) fn watch_log(&mut self, path: Option<&Path>) {
        let Some(queue) = &self.queue else {
            return;
        };
        let is_watched = |(watched, log): &(PathBuf, OwnedFd)| {
            path.is_some_and(|path| path == watched && leads_to(path, log))
        };
        if self.log.as_ref().is_some_and(is_watched) {
            return;
        }
        // The queue forgets a file that is closed.
        self.log = None;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = path.and_then(|path| {
            let log = rustix::fs::open(path, flags, Mode::empty()).ok()?;
            Some((path.to_owned(), log))
        });
        if let Some((_, log)) = &opened {
            if kqueue::add(queue, Source::Writes(log.as_fd()), LOG).is_ok() {
                self.log = opened;
            }
        }
    }
}

/// Returns `true` if the path leads to this file.
fn leads_to(path: &Path, file: &OwnedFd) -> bool {
    match (rustix::fs::stat(path), rustix::fs::fstat(file)) {
        (Ok(found), Ok(open)) => (found.st_dev, found.st_ino) == (open.st_dev, open.st_ino),
        _ => false,
    }
}

fn send_changes(queue: &OwnedFd, events: &Sender<Event>) {
    let mut room = [Change::BLANK; 16];
    loop {
        let changes = match kqueue::wait(queue, &mut room, None) {
            Ok(changes) => changes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        };
        for change in changes {
            let event = match change.token() {
                LOG => Event::LogChanged,
                _ => Event::Changed,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
}
