//! Waits for changes with inotify.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use procref::SharedService;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::{Change, LogFile};
use crate::error::{Error, Result};

/// An inotify instance, and a pipe that is closed when the service has stopped.
pub(super) struct Changes {
    log: OwnedFd,
    stopped: OwnedFd,
}

impl Changes {
    /// Watches the directory and not the log itself, because a start renames a log that is too long and creates
    /// another one.
    pub(super) fn watch(log: &LogFile, service: SharedService) -> Result<Self> {
        let dir = log.path.parent().unwrap_or(Path::new("/"));
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            let events = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, dir, events)?;
            Ok(watch)
        };
        Ok(Self {
            log: watch().map_err(|error: Errno| log.failed(error.into()))?,
            stopped: wait_stopped(service)?,
        })
    }

    pub(super) fn next(&mut self, log: &LogFile) -> Result<Change> {
        let mut watched = [&self.log, &self.stopped].map(|fd| PollFd::new(fd, PollFlags::IN));
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(log.failed(error.into())),
            }
        }
        let [has_changed, has_stopped] = watched.map(|fd| !fd.revents().is_empty());
        if has_changed {
            let mut events = [MaybeUninit::uninit(); 4096];
            rustix::io::read(&self.log, &mut events[..])
                .map_err(|error| log.failed(error.into()))?;
        }
        Ok(if has_stopped {
            Change::Stopped
        } else {
            Change::Output
        })
    }
}

/// Returns the device and the inode of a file.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns a pipe that is closed when the service has stopped. The thread that waits for that ends with this process.
fn wait_stopped(service: SharedService) -> Result<OwnedFd> {
    let failed = |error: io::Error| Error::io("wait for the service to stop", error);
    let (stopped, open) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
    let wait = move || {
        // After an error, there is nothing to wait for either.
        let _ = service.wait_stopped_blocking(Duration::MAX);
        drop(open);
    };
    let thread = thread::Builder::new().name("procref: logs".to_owned());
    thread.spawn(wait).map_err(failed)?;
    Ok(stopped)
}
