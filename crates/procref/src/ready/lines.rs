//! Searches a line in the log.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use regex_lite::Regex;

use super::connection::failed;
use super::wait::{ProbeResult, ReadinessWait};
use crate::command::log::{RotatedLog, files};
use crate::file;

/// A longer line is searched in pieces of this size, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;

/// The number of bytes by which the position of the last read is recognized, in the log and in the rotated log.
const LAST: usize = 512;

/// Advice for missing output. The C library, Python, Ruby and others buffer the output to a file in blocks of
/// some kilobytes.
const BUFFERED: &str = " (many programs buffer output that does not go to a terminal: try `stdbuf -oL PROGRAM`, \
                        `PYTHONUNBUFFERED=1` or `python -u`, or an option of the program's own)";

/// A pattern, and the log in which it is searched.
pub(crate) struct LogLines {
    pub(crate) pattern: Regex,
    /// The file, open for reading. It is the service's file, even after a rename.
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// The offset at which this run's output begins, in bytes.
    pub(crate) start: u64,
    /// The rotated log when this run began.
    pub(crate) rotated: Option<RotatedLog>,
}

/// The progress of reading.
#[derive(Default)]
pub(super) struct Reading {
    /// The offset from the beginning of the run, or from the beginning of the file if the file was truncated
    /// during the run.
    offset: Option<u64>,
    /// The bytes before this offset that were read, at most [`LAST`].
    last: Vec<u8>,
    /// The rotated log that was searched.
    rotated: Option<RotatedLog>,
    /// An incomplete line.
    partial: Vec<u8>,
    /// `true` if anything was read.
    has_output: bool,
}

impl LogLines {
    /// Reads the output since the last probe.
    pub(super) fn probe(&self, reading: &mut Reading, watch: &ReadinessWait<'_>) -> ProbeResult {
        loop {
            match self.read_on(reading) {
                Ok(Some(lines)) => {
                    if lines.iter().any(|line| self.matches(line)) {
                        return ProbeResult::Ready;
                    }
                }
                Ok(None) => return ProbeResult::NotYet(self.missing(reading)),
                Err(error) => return failed(error),
            }
            // Check the deadline and the alarm, because a program may write faster than this loop reads.
            if watch.has_alarm() {
                return ProbeResult::Alarm;
            }
            if watch.is_over() {
                return ProbeResult::NotYet(
                    "no such line in the part that could be read in time".to_owned(),
                );
            }
        }
    }

    /// Describes output without a matching line.
    fn missing(&self, reading: &Reading) -> String {
        if !reading.has_output {
            return format!("no output so far{BUFFERED}");
        }
        if !reading.partial.is_empty() {
            return format!("no such line so far, and the last line is incomplete{BUFFERED}");
        }
        "no such line so far".to_owned()
    }

    /// Returns the complete lines of the next few kilobytes, or `None` at the end of the file.
    fn read_on(&self, reading: &mut Reading) -> io::Result<Option<Vec<Vec<u8>>>> {
        if let Some(moved) = self.moved_output(reading)? {
            reading.has_output |= !moved.is_empty();
            return Ok(Some(split_lines(&mut reading.partial, &moved)));
        }
        let offset = reading.offset.unwrap_or(self.start);
        let mut buffer = [0; 8192];
        let length = file::read_at(&self.file, &mut buffer, offset)?;
        reading.offset = Some(offset + length as u64);
        if length == 0 {
            return Ok(None);
        }
        reading.has_output = true;
        reading.last.extend_from_slice(&buffer[..length]);
        let old = reading.last.len().saturating_sub(LAST);
        reading.last.drain(..old);
        Ok(Some(split_lines(&mut reading.partial, &buffer[..length])))
    }

    /// Returns the output that a rotation has moved to the rotated log before it was read, and continues at the
    /// beginning of the log. Returns `None` if there was no rotation.
    fn moved_output(&self, reading: &mut Reading) -> io::Result<Option<Vec<u8>>> {
        let offset = reading.offset.unwrap_or(self.start);
        let rotated = RotatedLog::of(&self.path);
        let known = reading.rotated.as_ref().or(self.rotated.as_ref());
        let was_truncated = self.was_truncated(offset, &reading.last)?;
        // If nothing of the log was read, no content shows that it was truncated.
        let is_unread = offset == 0 && rotated.is_some() && rotated.as_ref() != known;
        if !was_truncated && !is_unread {
            return Ok(None);
        }
        let mut moved = match rotated {
            Some(_) => fs::read(&files(&self.path)[1])?,
            None => Vec::new(),
        };
        if was_truncated {
            let last = &reading.last;
            let found = match last.is_empty() {
                true => None,
                false => moved.windows(last.len()).rposition(|part| part == last),
            };
            let read = match found {
                Some(at) => at + last.len(),
                // All of it was written after the part that was read.
                None if !last.is_empty() && rotated.as_ref() != known => 0,
                // Another program has truncated the log, or earlier runs have written a part of it.
                None => moved.len(),
            };
            if found.is_none() {
                reading.partial.clear();
            }
            moved.drain(..read);
        }
        reading.offset = Some(0);
        reading.last.clear();
        reading.rotated = rotated;
        Ok(Some(moved))
    }

    /// Returns `true` if the bytes before the offset are not the last ones that were read. A service may have written so
    /// much after a truncation that the log is not shorter than before.
    fn was_truncated(&self, offset: u64, last: &[u8]) -> io::Result<bool> {
        if self.file.metadata()?.len() < offset {
            return Ok(true);
        }
        let mut now = [0; LAST];
        let now = &mut now[..last.len()];
        let length = file::read_at(&self.file, now, offset - last.len() as u64)?;
        Ok(now[..length] != *last)
    }

    fn matches(&self, line: &[u8]) -> bool {
        self.pattern.is_match(&String::from_utf8_lossy(line))
    }
}

/// Removes the complete lines from `partial` and `bytes`. The incomplete last line stays in `partial`.
pub(super) fn split_lines(partial: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
        partial.extend_from_slice(piece);
        if piece.ends_with(b"\n") || partial.len() >= LONGEST {
            let mut line = std::mem::take(partial);
            line.truncate(line.trim_ascii_end().len());
            lines.push(line);
        }
    }
    lines
}

impl fmt::Display for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "a line that matches `{}` in {path}", self.pattern)
    }
}
