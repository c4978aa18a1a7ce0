//! Waits for changes of a log, and for the end of its service.

use std::fs::File;
use std::io;
use std::iter;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Duration;

use procref::SharedService;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{Change, LogFile};
use crate::descriptor;
use crate::error::{Error, Result};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

/// A watch on the log, and a pipe that is closed when the service has stopped.
pub(super) struct Changes {
    log: sys::LogWatch,
    stopped: Option<OwnedFd>,
}

impl Changes {
    pub(super) fn watch(log: &LogFile) -> Result<Self> {
        let watch = sys::LogWatch::new(&log.path).map_err(|error| log.failed(error.into()))?;
        Ok(Self {
            log: watch,
            stopped: None,
        })
    }

    /// Reports from now on that the service has stopped.
    pub(super) fn wait_stopped(&mut self, service: SharedService) -> Result<()> {
        self.stopped = Some(wait_stopped(service)?);
        Ok(())
    }

    pub(super) fn next(&mut self, log: &LogFile) -> Result<Change> {
        let watched = iter::once(self.log.as_fd()).chain(self.stopped.as_ref().map(AsFd::as_fd));
        let mut watched: Vec<PollFd<'_>> = watched
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
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
            self.log.take().map_err(|error| log.failed(error))?;
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
    let (stopped, open) = descriptor::pipe().map_err(|error| failed(error.into()))?;
    let wait = move || {
        // After an error, there is nothing to wait for either.
        let _ = service.wait_stopped_blocking(Duration::MAX);
        drop(open);
    };
    let thread = thread::Builder::new().name("procref: logs".to_owned());
    thread.spawn(wait).map_err(failed)?;
    Ok(stopped)
}
