//! What can be seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procref_testkit::kernel;
use procref_testkit::observe::Identity;

use crate::site::Site;

/// The slots that are of interest, and the number of all.
const REFS: usize = 0;
const LOCK: usize = 1;
const SUPERVISOR: usize = 2;
const PIN: usize = 4;
const GENERATION: usize = 5;
const NAME: usize = 10;
const PID: usize = 14;

/// A process whose command line has one of these texts in it.
pub fn processes_with(texts: &[&str]) -> Vec<(Identity, String)> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != own)
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = texts.iter().any(|text| line.contains(text));
            let identity = Identity::of(pid).filter(|identity| ours && identity.is_live());
            identity.map(|identity| (identity, line))
        })
        .collect()
}

/// The service's supervisors.
pub fn supervisors(site: &Site) -> Vec<Identity> {
    let title = format!("procref: {}", site.name);
    let all = processes_with(&[&title]);
    let named = all.into_iter().filter(|(_, line)| line.trim_end() == title);
    named.map(|(identity, _)| identity).collect()
}

/// What a service's set says, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub clients: u32,
    pub locked: bool,
    pub pinned: bool,
    pub supervised: bool,
    /// It says whose it is.
    pub claimed: bool,
    /// It has counted an instance.
    pub used: bool,
}

impl Counts {
    /// Made by a process that died before it had started anything, or a supervisor. The next acquire
    /// uses it.
    pub fn is_blank(self) -> bool {
        self.clients == 0 && !self.locked && !self.pinned && !self.supervised && !self.used
    }
}

pub fn counts(key: i32) -> Option<Counts> {
    let set = kernel::find(key)?;
    let is_set = |slot| set.value(slot).map(|value| value > 0).ok();
    Some(Counts {
        clients: set.value(REFS).ok()?,
        locked: is_set(LOCK)?,
        pinned: is_set(PIN)?,
        supervised: is_set(SUPERVISOR)?,
        claimed: is_set(NAME)?,
        used: is_set(GENERATION)? || is_set(PID)?,
    })
}

/// The processes that have a file locked, or are waiting for it, and what each of their threads sleeps in.
pub fn lockers(path: &Path) -> Vec<(u32, String)> {
    let Ok(file) = fs::metadata(path) else {
        return Vec::new();
    };
    let inode = format!(":{}", file.ino());
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let locked = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.ends_with(&inode))?;
        words[at - 1].parse().ok()
    });
    locked.map(|pid| (pid, sleeps_of(pid))).collect()
}

fn sleeps_of(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let sleeps = tasks.flatten().flatten().map(|task| {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (comm, call) = (read("comm"), read("wchan"));
        format!("{}: {call}", comm.trim_end())
    });
    sleeps.collect::<Vec<_>>().join(", ")
}

/// Files in a runtime directory.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}
