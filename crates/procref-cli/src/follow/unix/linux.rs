//! Watches a log with inotify.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify;
use rustix::io::Errno;

/// An inotify instance.
pub(super) struct LogWatch(OwnedFd);

impl LogWatch {
    /// Watches the directory and not the log itself, because a start creates another log.
    pub(super) fn new(log: &Path) -> Result<Self, Errno> {
        let dir = log.parent().unwrap_or(Path::new("/"));
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, dir, events)?;
        Ok(Self(watch))
    }

    /// Takes the changes that have occurred, so that the descriptor is not readable any more.
    pub(super) fn take(&mut self) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); 4096];
        rustix::io::read(&self.0, &mut events[..])?;
        Ok(())
    }
}

impl AsFd for LogWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
