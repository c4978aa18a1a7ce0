//! Reads the state of the machine, without procref.

use std::fs;
use std::io;
use std::path::Path;

/// A process, identified by its pid and its start time, because the kernel reuses pids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    started: u64,
}

impl Identity {
    /// Returns the live process with this pid. A zombie is not alive.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain any character, also a parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, started })
    }

    pub fn is_gone(self) -> bool {
        Self::of(self.pid) != Some(self)
    }
}

/// Returns `true` if the kernel has a System V semaphore set with this key, in the notation of `ipcs -s`.
pub fn semaphore_set_exists(key: &str) -> io::Result<bool> {
    let number = key.strip_prefix("0x").unwrap_or(key);
    let number = u32::from_str_radix(number, 16).map_err(io::Error::other)?;
    // The kernel prints keys as signed numbers.
    let number = i32::from_ne_bytes(number.to_ne_bytes());
    let table = fs::read_to_string("/proc/sysvipc/sem")?;
    Ok(table.lines().skip(1).any(|line| {
        let key = line.split_ascii_whitespace().next();
        key.and_then(|text| text.parse().ok()) == Some(number)
    }))
}

/// Returns the names in a directory. Returns an empty list if the directory does not exist.
pub fn listing(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let name =
        |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect()
}

/// Returns all live processes that have `dir` as working directory or on the command line, except this
/// process and its ancestors. Each is a text `pid command line`.
pub fn processes_of(dir: &Path) -> io::Result<Vec<String>> {
    let mut ours = vec![std::process::id()];
    while let Some(parent) = ours.last().copied().and_then(parent_of) {
        ours.push(parent);
    }
    let needle = dir.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may exit between two reads.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_in = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let mentions = command.windows(needle.len()).any(|part| part == needle);
        if (mentions || works_in.starts_with(dir))
            && !ours.contains(&pid)
            && Identity::of(pid).is_some()
        {
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("{pid} {}", command.trim_end()));
        }
    }
    Ok(found)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    fields.nth(1)?.parse().ok().filter(|parent| *parent > 0)
}

/// Returns the number of lines that contain `part`.
pub fn lines_with(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}
