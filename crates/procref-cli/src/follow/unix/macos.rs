//! Watches a log with kqueue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procref_supervisor::kqueue::{self, Event, Source};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A queue that watches a log and its directory, because a start creates another log.
pub(super) struct LogWatch {
    queue: OwnedFd,
    path: PathBuf,
    /// The log, which the queue watches as long as this descriptor is open. `None` if it does not exist yet.
    log: Option<OwnedFd>,
    _dir: OwnedFd,
}

impl LogWatch {
    pub(super) fn new(log: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = log.parent().unwrap_or(Path::new("/"));
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        let queue = kqueue::new()?;
        kqueue::add(&queue, Source::Directory(dir.as_fd()), 0)?;
        let mut watch = Self {
            queue,
            path: log.to_owned(),
            log: None,
            _dir: dir,
        };
        watch.watch_log()?;
        Ok(watch)
    }

    /// Watches the file that is the log now.
    fn watch_log(&mut self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // If there is no log, the directory reports the next one. The code that reads the log reports every other error.
        let log = rustix::fs::open(&self.path, flags, Mode::empty()).ok();
        if let Some(log) = &log {
            kqueue::add(&self.queue, Source::Writes(log.as_fd()), 0)?;
        }
        self.log = log;
        Ok(())
    }

    /// Takes the changes that have occurred, so that the descriptor is not readable any more.
    ///
    /// The log is opened before the caller reads it. A write after that is an event of the new watch.
    pub(super) fn take(&mut self) -> io::Result<()> {
        kqueue::wait(&self.queue, &mut [Event::BLANK; 2], Some(Duration::ZERO))?;
        Ok(self.watch_log()?)
    }
}

impl AsFd for LogWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}
