//! Printing a service's log, and what comes into it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use procref::SharedService;

use crate::error::{Error, Result};
use crate::output::shown;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

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
        let mut news = sys::News::of(&self.source, service)?;
        // What came before that.
        self.catch_up()?;
        loop {
            let next = news.next(&self.source)?;
            self.catch_up()?;
            self.reopen()?;
            if next == Next::Over {
                return Ok(());
            }
        }
    }

    /// If another file has taken the log's place, that is read from now on.
    fn reopen(&mut self) -> Result<()> {
        let Ok(now) = File::open(&self.source.path) else {
            return Ok(());
        };
        let failed = |error| self.source.failed(error);
        let (before, after) = (sys::identity(&self.file), sys::identity(&now));
        if before.map_err(failed)? != after.map_err(failed)? {
            self.file = now;
            self.position = 0;
            self.catch_up()?;
        }
        Ok(())
    }
}

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There may be more in the log.
    Look,
    /// The service has stopped, so that is the last of it.
    Over,
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
