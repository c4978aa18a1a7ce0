//! Prints the log of a service, and then its new output.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use procref::{SharedService, State};
use procref_config::log_files;

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
        log_files::open(&self.path).map_err(|error| self.failed(error))
    }

    /// Opens the older part of the log. Returns `None` if there is none.
    fn open_older(&self) -> Result<Option<File>> {
        let older = log_files::older(&self.path);
        log_files::open(&older).map_err(|error| self.failed(error))
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
    /// The older part of the log, and the position in it, before it is printed.
    older: Option<(File, u64)>,
    /// `None` if the log does not exist yet.
    file: Option<File>,
    /// The number of bytes that have been printed.
    position: u64,
    /// The last bytes that were printed, by which the position is found in the older part after a rotation.
    printed: Vec<u8>,
    output: Output,
    /// `true` if a message on the standard error separates two runs.
    announces_runs: bool,
    /// `true` if the service has stopped, so more output belongs to another run.
    is_between_runs: bool,
}

const BLOCK: usize = 1 << 16;

/// The number of bytes in [`Follower::printed`]. Logs usually have times, so this part is unique.
const PRINTED: usize = 512;

impl Follower {
    /// Starts before the last `lines` lines, or at the beginning. A missing log is empty.
    pub(crate) fn open(log: LogFile, lines: Option<usize>, output: Output) -> Result<Self> {
        let mut file = log.open()?;
        let older = log.open_older()?;
        let begin = |file: &mut File, lines: Option<usize>| match lines {
            Some(lines) => last_lines(file, lines).map_err(|error| log.failed(error)),
            None => Ok((0, 0)),
        };
        let (position, found) = match &mut file {
            Some(file) => begin(file, lines)?,
            None => (0, 0),
        };
        let missing = lines.map(|lines| lines.saturating_sub(found));
        let older = match older {
            Some(mut older) => Some((begin(&mut older, missing)?.0, older)),
            None => None,
        };
        Ok(Self {
            log,
            older: older.map(|(position, older)| (older, position)),
            file,
            position,
            printed: Vec::new(),
            output,
            announces_runs: false,
            is_between_runs: false,
        })
    }

    /// Writes a message to the standard error when the output of another run begins.
    pub(crate) fn announce_runs(&mut self) {
        self.announces_runs = true;
    }

    /// Prints the output that was added to the log after the last call. Returns `false` if there is none.
    pub(crate) fn print_new(&mut self) -> Result<bool> {
        let mut is_new = false;
        if let Some((mut older, position)) = self.older.take() {
            let failed = |error| self.log.failed(error);
            older.seek(SeekFrom::Start(position)).map_err(failed)?;
            is_new = self.print_rest(&mut older)?;
        }
        let Some(mut file) = self.file.take() else {
            return Ok(is_new);
        };
        let size = file
            .metadata()
            .map_err(|error| self.log.failed(error))?
            .len();
        if size < self.position {
            // A rotation or another program has truncated the log, so its whole content is new.
            self.position = 0;
            is_new |= self.print_rotated()?;
        }
        let failed = |error| self.log.failed(error);
        file.seek(SeekFrom::Start(self.position)).map_err(failed)?;
        is_new |= self.print_rest(&mut file)?;
        let failed = |error| self.log.failed(error);
        self.position = file.stream_position().map_err(failed)?;
        self.file = Some(file);
        Ok(is_new)
    }

    /// Prints a file from its current position to its end. Returns `false` if there is nothing to print.
    fn print_rest(&mut self, file: &mut File) -> Result<bool> {
        let mut is_new = false;
        let mut block = vec![0; BLOCK];
        loop {
            let read = file
                .read(&mut block)
                .map_err(|error| self.log.failed(error))?;
            if read == 0 {
                return Ok(is_new);
            }
            is_new = true;
            self.print(&block[..read])?;
        }
    }

    fn print(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_between_runs {
            self.announce()?;
        }
        self.printed
            .extend_from_slice(&bytes[bytes.len().saturating_sub(PRINTED)..]);
        let old = self.printed.len().saturating_sub(PRINTED);
        self.printed.drain(..old);
        self.output.print(bytes)
    }

    /// Prints the output that a rotation has moved to the older part before it was printed.
    fn print_rotated(&mut self) -> Result<bool> {
        let Some(mut older) = self.log.open_older()? else {
            return Ok(false);
        };
        let mut bytes = Vec::new();
        older
            .read_to_end(&mut bytes)
            .map_err(|error| self.log.failed(error))?;
        let printed = &self.printed;
        // If the end of the printed output is not there, another program has truncated the log.
        let found = match printed.is_empty() {
            true => None,
            false => bytes
                .windows(printed.len())
                .rposition(|window| window == printed),
        };
        let rest = found.map_or(bytes.len(), |at| at + printed.len());
        if rest < bytes.len() {
            self.print(&bytes[rest..])?;
        }
        Ok(rest < bytes.len())
    }

    /// Separates the output of two runs.
    fn announce(&mut self) -> Result<()> {
        self.is_between_runs = false;
        self.finish()?;
        if self.announces_runs {
            let service = &self.log.service;
            // A failed write is ignored: without standard error, there is no place for the message.
            let _ = writeln!(
                io::stderr(),
                "procref: service `{service}` was started again"
            );
        }
        Ok(())
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
        // If nothing was printed, there is nothing to separate.
        self.is_between_runs = !has_started && !self.printed.is_empty();
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
        // The rest of the file that was replaced.
        self.print_new()?;
        let is_another = self.file.is_some();
        self.file = Some(now);
        self.position = 0;
        self.finish()?;
        if is_another && !self.printed.is_empty() {
            self.announce()?;
        }
        self.printed.clear();
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

/// Returns the position at which the last `lines` lines begin, and their number. There may be fewer.
fn last_lines(file: &mut File, lines: usize) -> io::Result<(u64, usize)> {
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
                    return Ok((behind, lines));
                }
            }
        }
    }
    Ok(match (lines, size) {
        (0, _) => (size, 0),
        (_, 0) => (0, 0),
        _ => (0, found + 1),
    })
}
