//! Observations of the system that do not use procref.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

pub(super) use sys::{PROCESSES, is_file, object_exists};

/// A pid with its start time. The kernel may reuse a pid alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    started: u64,
}

impl ProcessId {
    /// Returns the process that has this pid, unless it is a zombie.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let started = sys::started(pid)?;
        Some(Self { pid, started })
    }

    pub(super) fn has_exited(self) -> bool {
        Self::of(self.pid) != Some(self)
    }
}

fn file_exists(path: &str) -> Result<bool> {
    fs::exists(path).map_err(|error| Error::io(format!("read {path}"), error))
}

/// Returns the names in a directory.
pub(super) fn listing(dir: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io(format!("read the directory {}", dir.display()), error);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry
            .map_err(failed)?
            .file_name()
            .to_string_lossy()
            .into_owned())
    };
    entries.map(name).collect()
}

/// Returns the number of lines that contain `part`.
pub(super) fn lines_with(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}
