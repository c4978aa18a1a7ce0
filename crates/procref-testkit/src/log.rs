//! The log that the services and the callbacks of a scene share.
//!
//! Every line is one `write` to a file opened with `O_APPEND`, so the lines of
//! all processes are whole and in one order.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::observe::Identity;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A service is up.
    Start(Identity),
    /// A process that a service has started is up.
    Worker(Identity),
    /// A service ends by itself, and why. A killed one cannot write this.
    Stop(u32, String),
    /// A service found another one alive: the guarantee is broken.
    Overlap(u32),
    /// The pid of a client whose callback of this name began to run.
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
            Self::Start(who) => format!("start {} {}\n", who.pid, who.start),
            Self::Worker(who) => format!("worker {} {}\n", who.pid, who.start),
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
/// When the file cannot be written.
pub fn append(path: &Path, line: &Line) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(line.text().as_bytes())
}

/// Everything that was logged so far; nothing if there is no log yet.
///
/// # Panics
///
/// On a line that nobody here writes.
#[must_use]
pub fn read(path: &Path) -> Vec<Line> {
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

fn parse(text: &str) -> Vec<Line> {
    text.lines()
        .map(|line| Line::parse(line).unwrap_or_else(|| panic!("strange log line {line:?}")))
        .collect()
}

/// A log that is read as it grows.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line that was not there to its end yet.
    begun: String,
}

impl Tail {
    /// From the beginning of the log, which need not be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            begun: String::new(),
        }
    }

    /// What was logged since the last time.
    ///
    /// # Panics
    ///
    /// On a line that nobody here writes, and when the log cannot be read.
    pub fn read_new(&mut self) -> Vec<Line> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        let read = file.read_to_string(&mut self.begun);
        read.expect("read the log");
        let whole = self.begun.rfind('\n').map_or(0, |end| end + 1);
        let lines = parse(&self.begun[..whole]);
        self.begun.drain(..whole);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_file() {
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
