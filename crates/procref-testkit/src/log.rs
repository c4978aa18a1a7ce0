//! The log that the services and the callbacks of a scene share.
//!
//! Every line is a single `write` to a file opened with `O_APPEND`, so the lines of all processes are complete and
//! ordered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::observe::Identity;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A service has started.
    Start(Identity),
    /// A worker process of a service has started.
    Worker(Identity),
    /// A service exits gracefully, with the reason. A killed service does not write this line.
    Stop(u32, String),
    /// A service found another live instance: guarantee G1 is broken.
    Overlap(u32),
    /// The pid of a client that has called the callback of this name.
    Callback(u32, String),
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let (kind, pid, rest) = (words.next()?, words.next()?.parse().ok()?, words.next());
        Some(match kind {
            "start" => Self::Start(Identity {
                pid,
                start: rest?.parse().ok()?,
            }),
            "worker" => Self::Worker(Identity {
                pid,
                start: rest?.parse().ok()?,
            }),
            "stop" => Self::Stop(pid, rest?.to_owned()),
            "OVERLAP" => Self::Overlap(pid),
            "callback" => Self::Callback(pid, rest?.to_owned()),
            _ => return None,
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Start(identity) => format!("start {} {}\n", identity.pid, identity.start),
            Self::Worker(identity) => format!("worker {} {}\n", identity.pid, identity.start),
            Self::Stop(pid, why) => format!("stop {pid} {why}\n"),
            Self::Overlap(pid) => format!("OVERLAP {pid}\n"),
            Self::Callback(pid, name) => format!("callback {pid} {name}\n"),
        }
    }
}

/// Appends one line.
///
/// # Errors
///
/// Returns an error if the file cannot be written.
pub fn append(path: &Path, line: &Line) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(line.text().as_bytes())
}

/// Reads all lines of a log. Returns no lines if the log does not exist yet.
///
/// # Panics
///
/// Panics on a line that is not a [`Line`].
#[must_use]
pub fn read(path: &Path) -> Vec<Line> {
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

fn parse(text: &str) -> Vec<Line> {
    text.lines()
        .map(|line| Line::parse(line).unwrap_or_else(|| panic!("unexpected log line {line:?}")))
        .collect()
}

/// A log that is read as it grows.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that is not complete yet.
    partial: String,
}

impl Tail {
    /// Starts at the beginning of the log. The log need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            partial: String::new(),
        }
    }

    /// Returns the lines that were added since the last call.
    ///
    /// # Panics
    ///
    /// Panics on a line that is not a [`Line`], and if the log cannot be read.
    pub fn read_new(&mut self) -> Vec<Line> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        let read = file.read_to_string(&mut self.partial);
        read.expect("read the log");
        let whole = self.partial.rfind('\n').map_or(0, |end| end + 1);
        let lines = parse(&self.partial[..whole]);
        self.partial.drain(..whole);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_returns_the_appended_lines() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
        let mut tail = Tail::new(path.clone());
        assert!(tail.read_new().is_empty());
        let lines = [
            Line::Start(Identity { pid: 7, start: 8 }),
            Line::Callback(9, "on_recover".to_owned()),
            Line::Worker(Identity { pid: 9, start: 10 }),
            Line::Overlap(7),
            Line::Stop(7, "signal 15".to_owned()),
        ];
        assert!(read(&path).is_empty());
        for line in &lines {
            append(&path, line).expect("append");
        }
        assert_eq!(read(&path), lines);
        assert_eq!(tail.read_new(), lines);
        append(&path, &lines[0]).expect("append");
        assert_eq!(tail.read_new(), lines[..1]);
    }
}
