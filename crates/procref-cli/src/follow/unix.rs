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
    stopped: Option<OwnedFd>,
}

impl Changes {
    /// Watches the directory and not the log itself, because a start creates another log.
    pub(super) fn watch(log: &LogFile) -> Result<Self> {
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
            stopped: None,
        })
    }

    /// Reports from now on that the service has stopped.
    pub(super) fn wait_stopped(&mut self, service: SharedService) -> Result<()> {
        self.stopped = Some(wait_stopped(service)?);
        Ok(())
    }

    pub(super) fn next(&mut self, log: &LogFile) -> Result<Change> {
        let watched = [Some(&self.log), self.stopped.as_ref()];
        let watched = watched.into_iter().flatten();
        let mut watched: Vec<PollFd<'_>> =
            watched.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(log.failed(error.into())),
            }
        }
        let mut ready = watched.iter().map(|fd| !fd.revents().is_empty());
        let (has_changed, has_stopped) = (ready.next(), ready.next());
        if has_changed == Some(true) {
            let mut events = [MaybeUninit::uninit(); 4096];
            rustix::io::read(&self.log, &mut events[..])
                .map_err(|error| log.failed(error.into()))?;
        }
        Ok(match has_stopped {
            Some(true) => Change::Stopped,
            _ => Change::Output,
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
