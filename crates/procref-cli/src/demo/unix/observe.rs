//! Observations of the system that do not use procref.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// A pid with its start time. The kernel may reuse a pid alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    started: u64,
}

impl ProcessId {
    /// Returns the process that has this pid, unless it is a zombie.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may have any character, including a parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, started })
    }

    pub(super) fn has_exited(self) -> bool {
        Self::of(self.pid) != Some(self)
    }
}

/// Returns `true` if a keeper counts the clients. Its object is a file.
pub(super) fn is_file(object: &str) -> bool {
    object.starts_with('/')
}

/// Returns `true` if the file of a keeper exists, or if the kernel lists a System V semaphore set with this key, in the
/// form of `ipcs -s`.
pub(super) fn object_exists(object: &str) -> Result<bool> {
    match is_file(object) {
        true => fs::exists(object).map_err(|error| Error::io(format!("read {object}"), error)),
        false => semaphore_set_exists(object),
    }
}

fn semaphore_set_exists(key: &str) -> Result<bool> {
    let number = key.strip_prefix("0x").unwrap_or(key);
    let number = u32::from_str_radix(number, 16).unwrap_or_default();
    let table = fs::read_to_string("/proc/sysvipc/sem")
        .map_err(|error| Error::io("read /proc/sysvipc/sem", error))?;
    // The file prints keys as signed numbers.
    let number = i32::from_ne_bytes(number.to_ne_bytes()).to_string();
    Ok(table.lines().skip(1).any(|line| {
        let key = line.split_ascii_whitespace().next();
        key == Some(&number)
    }))
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
