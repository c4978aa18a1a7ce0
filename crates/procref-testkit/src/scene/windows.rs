//! Where the kernel object is a family of named objects.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use procref::{SharedService, State, Status};

use super::{Scene, lock};
use crate::deadline;
use crate::process::handles_of_section;

/// What a service's kernel object is known by: the two digests in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    space: u64,
    name: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r"Local\procref-{:015x}-{:015x}", self.space, self.name)
    }
}

pub(crate) fn parse_key(name: &str) -> Key {
    let digests = name.strip_prefix(r"Local\procref-").expect("procref's");
    let (space, name) = digests.split_once('-').expect("two digests");
    let number = |digits| u64::from_str_radix(digits, 16).expect("a digest is hexadecimal");
    Key {
        space: number(space),
        name: number(name),
    }
}

/// What is made here is this user's.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

/// The file that is locked, byte by byte, has no content, and is not removed.
pub(super) fn stays(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "procref.lock")
}

/// There are none.
pub(super) fn sweep_supervisors<'a>(
    _root: &Path,
    _names: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    Vec::new()
}

/// The objects that there are. Nobody can remove them from those who have them open.
pub(super) fn sweep_objects(keys: &[Key]) -> Vec<String> {
    let open = |key: &&Key| handles_of_section(&key.to_string()).expect("look at a section") > 0;
    let left = keys.iter().filter(open);
    left.map(|key| format!("section {key}")).collect()
}

impl Scene {
    /// What this very process is told, which is no client and only looks. Counting the handles on a reference from
    /// outside would add one, and who leaves at that moment would take himself not to be the last.
    fn look(&self, key: Key) -> Status {
        let (name, dir) = lock(&self.shared.keys)[&key].clone();
        let service = SharedService::builder(&name).base_dir(dir).build();
        service.and_then(|it| it.status()).expect("look at it")
    }

    /// Whether a service has a kernel object. One that is blank, and only open, is none.
    #[must_use]
    pub fn exists(&self, key: Key) -> bool {
        self.look(key).state() != State::Absent
    }

    /// How many clients are counted.
    #[must_use]
    pub fn references(&self, key: Key) -> u32 {
        self.look(key).clients()
    }

    /// Whether somebody has the transition lock.
    #[must_use]
    pub fn is_locked(&self, key: Key) -> bool {
        self.look(key).transition().is_some()
    }

    /// Waits until `count` processes and one more, who has the lock, have come to the object. That they sleep
    /// Windows does not tell; it is the next that they do.
    #[track_caller]
    pub fn wait_sleepers(&self, key: Key, count: u32) {
        let name = key.to_string();
        deadline::until_true("processes that have the section open", || {
            handles_of_section(&name).expect("look at a section") > count
        });
    }
}
