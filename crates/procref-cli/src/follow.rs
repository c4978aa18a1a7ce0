//! Printing a service's log, and what comes into it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use procref::SharedService;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::output::shown;

/// The log of a service.
pub(crate) struct Source {
    service: String,
    path: PathBuf,
}

impl Source {
    pub(crate) fn new(service: &SharedService, path: &Path) -> Self {
        Self {
            service: shown(service.name()),
            path: path.to_owned(),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        let doing = format!(
            "read the log of service `{}`, {}",
            self.service,
            self.path.display()
        );
        Error::io(doing, error)
    }
}

pub(crate) struct Follower {
    source: Source,
    file: File,
    /// How much of the file has been printed.
    position: u64,
}

const BLOCK: usize = 1 << 16;

impl Follower {
    /// At the last lines, or at the beginning.
    pub(crate) fn open(source: Source, lines: Option<usize>) -> Result<Self> {
        let mut file = File::open(&source.path).map_err(|error| source.failed(error))?;
        let position = match lines {
            None => 0,
            Some(lines) => last_lines(&mut file, lines).map_err(|error| source.failed(error))?,
        };
        Ok(Self {
            source,
            file,
            position,
        })
    }

    /// Prints what has come since.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            let failed = |error| self.source.failed(error);
            let size = self.file.metadata().map_err(failed)?.len();
            if size < self.position {
                // Somebody has made room in it: what is there has come since.
                self.position = 0;
            }
            self.file
                .seek(SeekFrom::Start(self.position))
                .map_err(failed)?;
            let read = self.file.read(&mut block).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            self.position += read as u64;
            let mut out = io::stdout().lock();
            out.write_all(&block[..read])
                .and_then(|()| out.flush())
                .map_err(|error| Error::io("write to the standard output", error))?;
        }
    }

    /// Goes on until the service has stopped.
    pub(crate) fn follow(&mut self, service: SharedService) -> Result<()> {
        let changes = self.watch()?;
        let stopped = end_of(service)?;
        // What came before that.
        self.catch_up()?;
        loop {
            let mut watched = [&changes, &stopped].map(|fd| PollFd::new(fd, PollFlags::IN));
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                polled => polled.map_err(|error| self.source.failed(error.into()))?,
            };
            let [changed, over] = watched.map(|fd| !fd.revents().is_empty());
            if changed {
                let mut events = [MaybeUninit::uninit(); 4096];
                rustix::io::read(&changes, &mut events[..])
                    .map_err(|error| self.source.failed(error.into()))?;
            }
            self.catch_up()?;
            self.reopen()?;
            if over {
                return Ok(());
            }
        }
    }

    /// The directory is watched and not the file: a start renames a log that is too long, and makes
    /// another one.
    fn watch(&self) -> Result<OwnedFd> {
        let dir = self.source.path.parent().unwrap_or(Path::new("/"));
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            let events = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&watch, dir, events)?;
            Ok(watch)
        };
        watch().map_err(|error: Errno| self.source.failed(error.into()))
    }

    /// If another file has taken the log's place, that is read from now on.
    fn reopen(&mut self) -> Result<()> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let Ok(now) = self.source.path.metadata() else {
            return Ok(());
        };
        let before = self
            .file
            .metadata()
            .map_err(|error| self.source.failed(error))?;
        if identity(before) != identity(now) {
            if let Ok(file) = File::open(&self.source.path) {
                self.file = file;
                self.position = 0;
                self.catch_up()?;
            }
        }
        Ok(())
    }
}

/// Where the last lines of a file begin.
fn last_lines(file: &mut File, lines: usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut from = size;
    let mut found = 0;
    let mut block = vec![0; BLOCK];
    while from > 0 && lines > 0 {
        let length = from.min(BLOCK as u64);
        from -= length;
        let block = &mut block[..usize::try_from(length).unwrap_or(BLOCK)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(block)?;
        for (at, _) in block
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let behind = from + at as u64 + 1;
            // The end of the last line begins none.
            if behind < size {
                found += 1;
                if found == lines {
                    return Ok(behind);
                }
            }
        }
    }
    Ok(if lines == 0 { size } else { 0 })
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
