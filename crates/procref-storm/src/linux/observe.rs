//! Observations from outside: `/proc`, the kernel's table of semaphores, and the runtime directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procref_testkit::kernel;
use procref_testkit::observe::Identity;

/// The slots of the set that matter here.
const REFS: usize = 0;
const LOCK: usize = 1;
const SUPERVISOR: usize = 2;
const PIN: usize = 4;
const GENERATION: usize = 5;
const NAME_DIGEST: usize = 10;
const PID: usize = 14;

/// Returns the children of a process, including zombies.
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

/// Returns the name of a process. A zombie also has a name.
pub fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// A live process of the storm.
#[derive(Clone, Debug)]
pub struct Process {
    pub identity: Identity,
    pub name: String,
    pub command_line: String,
}

impl Process {
    fn find(pid: u32) -> Option<Self> {
        let identity = Identity::of(pid).filter(|identity| identity.is_live())?;
        let command_line = String::from_utf8_lossy(&identity.command_line()).replace('\0', " ");
        Some(Self {
            identity,
            name: name_of(pid),
            command_line: command_line.trim_end().to_owned(),
        })
    }
}

/// Returns all live descendants of this process. A process that loses its parent becomes a child of this
/// process, or of a supervisor that descends from it.
pub fn descendants() -> Vec<Process> {
    let mut found = Vec::new();
    let mut parents = vec![std::process::id()];
    while let Some(parent) = parents.pop() {
        for pid in children_of(parent) {
            parents.push(pid);
            found.extend(Process::find(pid));
        }
    }
    found
}

/// The state of a service's semaphore set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub clients: u32,
    pub locked: bool,
    pub pinned: bool,
    pub supervised: bool,
    /// The set has the digest of its service's name.
    pub claimed: bool,
    /// The set has counted an instance.
    pub used: bool,
    /// The set has the identity of an instance.
    pub instance: bool,
}

impl Counts {
    /// Returns `true` if a process created the set and died before it had started an instance or a supervisor. The
    /// next acquire uses the set.
    pub fn is_empty(self) -> bool {
        self.clients == 0 && !self.locked && !self.pinned && !self.supervised && !self.instance
    }
}

/// Returns `None` if the set does not exist.
pub fn counts(key: i32) -> Option<Counts> {
    let set = kernel::find(key)?;
    let is_set = |slot| set.value(slot).map(|value| value > 0).ok();
    Some(Counts {
        clients: set.value(REFS).ok()?,
        locked: is_set(LOCK)?,
        pinned: is_set(PIN)?,
        supervised: is_set(SUPERVISOR)?,
        claimed: is_set(NAME_DIGEST)?,
        used: is_set(GENERATION)?,
        instance: is_set(PID)? || is_set(PID + 1)?,
    })
}

/// Returns the processes that have locked a file or wait for its lock, with the kernel function in which each
/// of their threads sleeps.
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
    locked.map(|pid| (pid, wait_channels(pid))).collect()
}

/// Returns the storm's processes that have a file open, with the kernel function in which each of their
/// threads sleeps.
pub fn openers(path: &Path) -> Vec<(Process, String)> {
    let has_open = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let mut open = open.flatten().flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
    };
    let openers = descendants().into_iter();
    openers
        .filter(|process| has_open(process.identity.pid))
        .map(|process| {
            let wait_channels = wait_channels(process.identity.pid);
            (process, wait_channels)
        })
        .collect()
}

fn wait_channels(pid: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let channels = tasks.flatten().flatten().map(|task| {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let (comm, channel) = (read("comm"), read("wchan"));
        format!("{}: {channel}", comm.trim_end())
    });
    channels.collect::<Vec<_>>().join(", ")
}

/// Returns the names of the files in a runtime directory, except the file that records its kernel.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_name() != "kernel");
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}
