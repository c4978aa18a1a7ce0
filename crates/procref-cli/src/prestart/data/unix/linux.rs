//! Locks and processes as `/proc` shows them: the process that holds a lock, and the identity of a process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process;

use procref_config::prestart::command_line::program_of;
use procref_config::prestart::protocol::shown_words;

/// Describes the oldest process that has a lock on this file. The process that took the lock may have exited, and its
/// descendants hold the lock then. Returns `None` if this process cannot see any of them.
pub(super) fn of(file: &impl AsFd) -> Option<String> {
    let stat = rustix::fs::fstat(file).ok()?;
    let inode = (stat.st_dev, stat.st_ino);
    let listed = fs::read_dir("/proc").ok()?;
    let pids = listed.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (pid != process::id()).then_some(pid)
    });
    let mut holders: Vec<_> = pids
        .filter(|&pid| has_lock(pid, inode))
        .filter_map(|pid| Some((Stat::of(pid)?.start, pid)))
        .collect();
    holders.sort_unstable();
    let (_, oldest) = holders.first()?;
    let mut text = described(*oldest)?;
    if holders.len() > 1 {
        text.push_str(&format!(" and {} more", holders.len() - 1));
    }
    Some(text)
}

/// Describes a process: pid, command line, and whether it is suspended.
pub(super) fn described(pid: u32) -> Option<String> {
    let stat = Stat::of(pid)?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<String> = command_line
        .split(|&byte| byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    // The last word is empty, because each word ends with a NUL.
    let words = &words[..words.len() - 1];
    let suspended = if stat.is_suspended() {
        ", suspended"
    } else {
        ""
    };
    let words = shown_words(program_of(words));
    Some(format!("process {pid} (`{words}`{suspended})"))
}

/// Returns `true` if a descriptor of this process has a lock on this file. A process that only opened the directory,
/// such as a shell, has no lock.
fn has_lock(pid: u32, inode: (u64, u64)) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    descriptors.into_iter().flatten().flatten().any(|entry| {
        // `metadata` follows the link to the open file, even if the file has no name any more.
        let is_file =
            fs::metadata(entry.path()).is_ok_and(|found| (found.dev(), found.ino()) == inode);
        let number = entry.file_name();
        let info = PathBuf::from(format!("/proc/{pid}/fdinfo")).join(number);
        is_file && fs::read_to_string(info).is_ok_and(|info| info.contains("FLOCK"))
    })
}

/// Returns a path to an open directory that stays valid if the directory is renamed or removed.
#[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
pub(super) fn descriptor_path(directory: &impl AsFd) -> io::Result<PathBuf> {
    let number = directory.as_fd().as_raw_fd();
    Ok(PathBuf::from(format!("/proc/self/fd/{number}")))
}

/// Waits until the whole file system of this file is on the disk.
pub(super) fn sync_file_system(file: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Why no process with a lock was found, for messages.
pub(super) const HIDDEN: &str = "of another user or in another container";

/// Returns a text that is equal for processes that see the same pids and the same clock.
///
/// The namespace's digest is not sufficient. It belongs to one runtime directory, and several runtime
/// directories may use one data directory.
pub(super) fn view() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    // Kernels before 5.6 have no time namespaces.
    let clock = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    // If `/proc` belongs to another pid namespace, it shows other processes.
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str() != Some(process::id().to_string().as_str()) {
        return None;
    }
    Some(format!(
        "{} {} {}",
        boot.trim_end(),
        pids.display(),
        clock.display()
    ))
}

/// Two fields of `/proc/PID/stat`.
pub(super) struct Stat {
    state: u8,
    /// Clock ticks from boot to the process's start.
    pub(super) start: u64,
}

impl Stat {
    /// Returns `None` if there is no such process, or `/proc` does not show it.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses `PID (COMMAND) STATE …`. The command may have spaces and parentheses, so the last `)` ends it. The state
    /// is field 3, and the start time is field 22.
    fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let start = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start })
    }

    /// Returns `false` for a zombie. If only the first thread has exited, the process still has its descriptors and the
    /// locks, unless it closed them.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn is_suspended(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_after_the_last_parenthesis() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = Stat::parse(format!("7 (a) b (c) {fields}\n").as_bytes()).expect("fields");
        assert_eq!(stat.start, 4711);
        assert!(stat.is_alive() && !stat.is_suspended());
        assert!(Stat::parse(b"7 (a) T 1 2").is_none());
        assert!(Stat::parse(b"").is_none());
    }
}
