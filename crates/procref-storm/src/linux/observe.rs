//! What can be seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procref_testkit::kernel;
use procref_testkit::observe::Identity;

/// The slots that are of interest, and the number of all.
const REFS: usize = 0;
const LOCK: usize = 1;
const SUPERVISOR: usize = 2;
const PIN: usize = 4;
const GENERATION: usize = 5;
const NAME: usize = 10;
const PID: usize = 14;

/// The processes whose parent this one is, zombies included.
pub fn children_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let lists = tasks
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.collect::<Vec<u32>>()
    });
    pids.collect()
}

/// What a process is called; that of a zombie, too.
pub fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// A process that is the storm's, and is not a zombie.
#[derive(Clone, Debug)]
pub struct Process {
    pub who: Identity,
    pub name: String,
    /// Its command line.
    pub line: String,
}

impl Process {
    fn look(pid: u32) -> Option<Self> {
        let who = Identity::of(pid).filter(|who| who.is_live())?;
        let line = String::from_utf8_lossy(&who.command_line()).replace('\0', " ");
        Some(Self {
            who,
            name: name_of(pid),
            line: line.trim_end().to_owned(),
        })
    }
}

/// Everybody that comes from this process: whoever loses its parent becomes a child of this process
/// itself, or of a supervisor that does.
pub fn descendants() -> Vec<Process> {
    let mut found = Vec::new();
    let mut parents = vec![std::process::id()];
    while let Some(parent) = parents.pop() {
        for pid in children_of(parent) {
            parents.push(pid);
            found.extend(Process::look(pid));
        }
    }
    found
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
    /// It names one.
    pub instance: bool,
}

impl Counts {
    /// Left by a process that died before it had started anything, or a supervisor. The next acquire
    /// uses it.
    pub fn is_empty(self) -> bool {
        self.clients == 0 && !self.locked && !self.pinned && !self.supervised && !self.instance
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
        used: is_set(GENERATION)?,
        instance: is_set(PID)? || is_set(PID + 1)?,
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

/// The storm's processes that have a file open, whoever has opened it, and what each sleeps in.
pub fn openers(path: &Path) -> Vec<(Process, String)> {
    let has_open = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let mut open = open.flatten().flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
    };
    let openers = descendants().into_iter();
    openers
        .filter(|process| has_open(process.who.pid))
        .map(|process| {
            let sleeps = sleeps_of(process.who.pid);
            (process, sleeps)
        })
        .collect()
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
