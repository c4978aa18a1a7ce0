//! A line in the log.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use regex_lite::Regex;

use super::connection::failed;
use super::wait::{Found, Watch};
use crate::file;

/// A line that is longer is looked at in pieces of this size, in bytes.
pub(super) const LONGEST: usize = 64 * 1024;

/// Advice for output that does not arrive. The C library, Python, Ruby and others collect what a program
/// writes to a file and write it in blocks of some kilobytes.
const BUFFERED: &str = " (many programs buffer output that does not go to a terminal: try `stdbuf -oL PROGRAM`, \
                        `PYTHONUNBUFFERED=1` or `python -u`, or an option of the program's own)";

/// What to look for, and where.
pub(crate) struct LogLines {
    pub(crate) pattern: Regex,
    /// Readable. It goes with the service's own open file when that is renamed.
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Where this run's output begins, in bytes.
    pub(crate) start: u64,
}

/// How far it was read.
#[derive(Default)]
pub(super) struct Reading {
    /// From the run's beginning, or from the file's if it was truncated since.
    offset: Option<u64>,
    /// A line without its end.
    partial: Vec<u8>,
    /// Whether anything was read.
    has_output: bool,
}

impl LogLines {
    /// Reads what has come since the last look.
    pub(super) fn look(&self, reading: &mut Reading, watch: &Watch<'_>) -> Found {
        loop {
            match self.read_on(reading) {
                Ok(Some(lines)) => {
                    if lines.iter().any(|line| self.matches(line)) {
                        return Found::Ready;
                    }
                }
                Ok(None) => return Found::NotYet(self.missing(reading)),
                Err(error) => return failed(error),
            }
            // A program that writes faster than this reads must not keep it from anything.
            if watch.has_alarm() {
                return Found::Alarm;
            }
            if watch.is_over() {
                return Found::NotYet("no such line in what could be read in time".to_owned());
            }
        }
    }

    /// Describes output in which no line matches.
    fn missing(&self, reading: &Reading) -> String {
        if !reading.has_output {
            return format!("it has written nothing so far{BUFFERED}");
        }
        if !reading.partial.is_empty() {
            return format!(
                "no such line so far, and the last one has no line break yet{BUFFERED}"
            );
        }
        "no such line so far".to_owned()
    }

    /// The whole lines among the next few kilobytes. `None`: there is no more to read.
    fn read_on(&self, reading: &mut Reading) -> io::Result<Option<Vec<Vec<u8>>>> {
        let mut offset = reading.offset.unwrap_or(self.start);
        if self.file.metadata()?.len() < offset {
            // Somebody made room in it: the service goes on from the beginning.
            offset = 0;
            reading.partial.clear();
        }
        let mut buffer = [0; 8192];
        let length = file::read_at(&self.file, &mut buffer, offset)?;
        reading.offset = Some(offset + length as u64);
        if length == 0 {
            return Ok(None);
        }
        reading.has_output = true;
        Ok(Some(split_lines(&mut reading.partial, &buffer[..length])))
    }

    fn matches(&self, line: &[u8]) -> bool {
        self.pattern.is_match(&String::from_utf8_lossy(line))
    }
}

/// Takes the lines out of `partial` and `bytes` after it; what is left has no end yet.
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
