//! Prints the log of a service, and then its new output.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use procref::{SharedService, State};

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

    /// Opens the log. Returns `None` if there is none.
    fn open(&self) -> Result<Option<File>> {
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
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

/// The standard output, or a part of it whose lines have a prefix.
pub(crate) struct Output {
    prefix: Option<String>,
    /// The beginning of a line whose end has not been written yet. Only used with a prefix.
    line: Vec<u8>,
}

impl Output {
    pub(crate) fn plain() -> Self {
        Self {
            prefix: None,
            line: Vec::new(),
        }
    }

    /// Prints only complete lines, because other logs are printed at the same time.
    pub(crate) fn prefixed(prefix: &str) -> Self {
        Self {
            prefix: Some(prefix.to_owned()),
            line: Vec::new(),
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(prefix) = &self.prefix else {
            return write(bytes);
        };
        let mut text = Vec::new();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend(part);
            if part.ends_with(b"\n") {
                text.extend(prefix.as_bytes());
                text.append(&mut self.line);
            }
        }
        write(&text)
    }

    /// Prints the beginning of a line whose end is missing.
    fn finish(&mut self) -> Result<()> {
        match self.line.is_empty() {
            true => Ok(()),
            false => self.print(b"\n"),
        }
    }
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Error::io("write to the standard output", error))
}

/// A log, and the position up to which it has been printed.
pub(crate) struct Follower {
    log: LogFile,
    /// `None` if the log does not exist yet.
    file: Option<File>,
    /// The number of bytes that have been printed.
    position: u64,
    output: Output,
}

const BLOCK: usize = 1 << 16;

impl Follower {
    /// Starts before the last `lines` lines, or at the beginning. A missing log is empty.
    pub(crate) fn open(log: LogFile, lines: Option<usize>, output: Output) -> Result<Self> {
        let mut file = log.open()?;
        let position = match (lines, &mut file) {
            (Some(lines), Some(file)) => {
                last_lines(file, lines).map_err(|error| log.failed(error))?
            }
            _ => 0,
        };
        Ok(Self {
            log,
            file,
            position,
            output,
        })
    }

    /// Prints the output that was added to the log after the last call. Returns `false` if there is none.
    pub(crate) fn print_new(&mut self) -> Result<bool> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let mut is_new = false;
        let mut block = vec![0; BLOCK];
        loop {
            let failed = |error| self.log.failed(error);
            let size = file.metadata().map_err(failed)?.len();
            if size < self.position {
                // Another program truncated the log, so its whole content is new.
                self.position = 0;
            }
            file.seek(SeekFrom::Start(self.position)).map_err(failed)?;
            let read = file.read(&mut block).map_err(failed)?;
            if read == 0 {
                return Ok(is_new);
            }
            is_new = true;
            self.position += read as u64;
            self.output.print(&block[..read])?;
        }
    }

    /// Prints the end of the last line, if it has no line break.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.output.finish()
    }

    /// Prints new output until the service has stopped. If it is not running, prints the output of its next start, even
    /// if that start fails.
    pub(crate) fn follow(&mut self, service: SharedService) -> Result<()> {
        let mut changes = sys::Changes::watch(&self.log)?;
        let status = service.status()?;
        let mut has_started = status.state() != State::Absent || status.transition().is_some();
        let mut not_started = Some(service);
        let mut change = Change::Output;
        loop {
            // The service may have written before the watch began.
            has_started |= self.print_new()?;
            has_started |= self.reopen()?;
            if change == Change::Stopped {
                return self.finish();
            }
            // A start opens the log with its lock held, so this wait does not end before the start does.
            if let Some(service) = not_started.take_if(|_| has_started) {
                changes.wait_stopped(service)?;
            }
            change = changes.next(&self.log)?;
        }
    }

    /// Continues with the new file if another file has replaced the log. Returns `true` if one has.
    fn reopen(&mut self) -> Result<bool> {
        let Ok(Some(now)) = self.log.open() else {
            return Ok(false);
        };
        let failed = |error| self.log.failed(error);
        let before = self.file.as_ref().map(sys::identity).transpose();
        let after = sys::identity(&now).map_err(failed)?;
        if before.map_err(failed)? == Some(after) {
            return Ok(false);
        }
        self.file = Some(now);
        self.position = 0;
        self.finish()?;
        self.print_new()?;
        Ok(true)
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
