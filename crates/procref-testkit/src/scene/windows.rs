//! Scenes on Windows: kernel objects are families of named objects.

use std::fs;
use std::io;
use std::path::Path;

use procref::{SharedService, State, Status};

use super::Scene;
use crate::deadline;
use crate::key::Key;
use crate::process::handles_of_section;
use crate::shared::lock;

/// Creates a directory. A directory inside the temporary directory is private to this user.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

/// Returns nothing, because Windows has no keepers.
pub(super) fn wait_keepers(_: &super::Scene) -> Vec<String> {
    Vec::new()
}

/// Returns `true` for the lock file. Processes lock its bytes, so procref never removes it.
pub(super) fn is_permanent(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "procref.lock")
}

/// Returns nothing, because Windows has no supervisors.
pub(super) fn remove_supervisors<'a>(
    _root: &Path,
    _names: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    Vec::new()
}

/// Returns the descriptions of the existing objects. No process can remove an object that another process has open.
pub(super) fn remove_objects(keys: &[Key]) -> Vec<String> {
    let open = |key: &&Key| handles_of_section(&key.to_string()).expect("open a section") > 0;
    let existing = keys.iter().filter(open);
    existing.map(|key| format!("section {key}")).collect()
}

impl Scene {
    /// Returns the status of the service, from the library in this process, which is not a client. Counting
    /// the handles on a reference from outside would need a further handle. A client that leaves at that
    /// moment would not detect that it is the last one.
    fn status(&self, key: Key) -> Status {
        let (name, dir) = lock(&self.shared.keys)[&key].clone();
        let service = SharedService::builder(&name).base_dir(dir).build();
        service
            .and_then(|service| service.status())
            .expect("a status")
    }

    /// Returns `true` if the service has a kernel object. An object that is open and blank does not count.
    #[must_use]
    pub fn exists(&self, key: Key) -> bool {
        self.status(key).state() != State::Absent
    }

    /// Returns the number of clients.
    #[must_use]
    pub fn references(&self, key: Key) -> u32 {
        self.status(key).clients()
    }

    /// Returns `true` if a process holds the transition lock.
    #[must_use]
    pub fn is_locked(&self, key: Key) -> bool {
        self.status(key).transition().is_some()
    }

    /// Waits until `count` processes, in addition to the holder of the lock, have opened the object. Windows does not
    /// show whether a process sleeps, but sleeping is the next step of each of them.
    #[track_caller]
    pub fn wait_sleepers(&self, key: Key, count: u32) {
        let name = key.to_string();
        deadline::until_true("processes that have the section open", || {
            handles_of_section(&name).expect("open a section") > count
        });
    }
}
