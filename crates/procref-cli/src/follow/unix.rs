//! By inotify.

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

use super::{Next, Source};
use crate::error::{Error, Result};

pub(super) struct News {
    changes: OwnedFd,
    stopped: OwnedFd,
}

impl News {
    /// The directory is watched and not the file: a start renames a log that is too long, and makes
    /// another one.
    pub(super) fn of(source: &Source, service: SharedService) -> Result<Self> {
        let dir = source.path.parent().unwrap_or(Path::new("/"));
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            let events = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, dir, events)?;
            Ok(watch)
        };
        Ok(Self {
            changes: watch().map_err(|error: Errno| source.failed(error.into()))?,
            stopped: end_of(service)?,
        })
    }

    pub(super) fn next(&mut self, source: &Source) -> Result<Next> {
        let mut watched = [&self.changes, &self.stopped].map(|fd| PollFd::new(fd, PollFlags::IN));
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(source.failed(error.into())),
            }
        }
        let [changed, over] = watched.map(|fd| !fd.revents().is_empty());
        if changed {
            let mut events = [MaybeUninit::uninit(); 4096];
            rustix::io::read(&self.changes, &mut events[..])
                .map_err(|error| source.failed(error.into()))?;
        }
        Ok(if over { Next::Over } else { Next::Look })
    }
}

pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A pipe that ends when the service has stopped. The thread that waits for that ends with this process.
fn end_of(service: SharedService) -> Result<OwnedFd> {
    let failed = |error: io::Error| Error::io("wait for the service's end", error);
    let (ended, open) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
    let wait = move || {
        // An error is an end as well: there is nothing more to wait for.
        let _ = service.wait_stopped_blocking(Duration::MAX);
        drop(open);
    };
    let thread = thread::Builder::new().name("procref: logs".to_owned());
    thread.spawn(wait).map_err(failed)?;
    Ok(ended)
}
