//! The log that the services and the callbacks of a scene share.
//!
//! Every line is one `write` to a file opened with `O_APPEND`, so the lines of
//! all processes are whole and in one order.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

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
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| Line::parse(line).unwrap_or_else(|| panic!("strange log line {line:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
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
    }
}
