//! Prints the log of a service, and then its new output.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use procref::SharedService;

use crate::error::{Error, Result};
use crate::text::shown;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The log of a service.
pub(crate) struct LogFile {
    service: String,
    path: PathBuf,
}

impl LogFile {
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

/// A log, and the position up to which it has been printed.
pub(crate) struct Follower {
    log: LogFile,
    file: File,
    /// The number of bytes that have been printed.
    position: u64,
}

const BLOCK: usize = 1 << 16;

impl Follower {
    /// Starts before the last `lines` lines, or at the beginning.
    pub(crate) fn open(log: LogFile, lines: Option<usize>) -> Result<Self> {
        let mut file = File::open(&log.path).map_err(|error| log.failed(error))?;
        let position = match lines {
            None => 0,
            Some(lines) => last_lines(&mut file, lines).map_err(|error| log.failed(error))?,
        };
        Ok(Self {
            log,
            file,
            position,
        })
    }

    /// Prints the output that was added to the log after the last call.
    pub(crate) fn print_new(&mut self) -> Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            let failed = |error| self.log.failed(error);
            let size = self.file.metadata().map_err(failed)?.len();
            if size < self.position {
                // Another program truncated the log, so its whole content is new.
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

    /// Prints new output until the service has stopped.
    pub(crate) fn follow(&mut self, service: SharedService) -> Result<()> {
        let mut changes = sys::Changes::watch(&self.log, service)?;
        // The service may have written before the watch began.
        self.print_new()?;
        loop {
            let change = changes.next(&self.log)?;
            self.print_new()?;
            self.reopen()?;
            if change == Change::Stopped {
                return Ok(());
            }
        }
    }

    /// Continues with the new file if another file has replaced the log.
    fn reopen(&mut self) -> Result<()> {
        let Ok(now) = File::open(&self.log.path) else {
            return Ok(());
        };
        let failed = |error| self.log.failed(error);
        let (before, after) = (sys::identity(&self.file), sys::identity(&now));
        if before.map_err(failed)? != after.map_err(failed)? {
            self.file = now;
            self.position = 0;
            self.print_new()?;
        }
        Ok(())
    }
}

/// A change that ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The log may have grown.
    Output,
    /// The service has stopped, so the log does not grow any more.
    Stopped,
}

/// Returns the position at which the last `lines` lines begin.
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
            // A line break at the end of the file does not begin another line.
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
