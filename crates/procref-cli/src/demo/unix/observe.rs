//! What anybody on the machine can see, without asking procref.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// One run of a process: a pid alone could be somebody else's by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) pid: u32,
    started: u64,
}

impl Run {
    /// The process that has this pid now, unless it is dead (a zombie is).
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, also a parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, started })
    }

    pub(super) fn is_over(self) -> bool {
        Self::of(self.pid) != Some(self)
    }
}

/// Whether the kernel lists a System V semaphore set with this key, given as `ipcs -s` prints it.
pub(super) fn semaphore_set_exists(key: &str) -> Result<bool> {
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

/// The names in a directory.
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

/// How many lines of a text contain `part`.
pub(super) fn lines_with(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}
