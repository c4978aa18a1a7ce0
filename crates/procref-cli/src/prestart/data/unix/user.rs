//! The process that uses a data directory, as the lock file and the note tell it.

use std::fs::{self, File};
use std::process;

use serde::{Deserialize, Serialize};

use super::{holders, read_text};

/// A process, told from every other one.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct User {
    service: String,
    /// The digest of its namespace, which is in the name of its record, too.
    namespace: Option<String>,
    pub(super) pid: u32,
    start: u64,
    /// [`view`] of the process that has written this.
    view: String,
}

/// What is written about a process. `None` if its start time cannot be read.
pub(in super::super) fn text(service: &str, namespace: Option<&str>, pid: u32) -> Option<String> {
    let user = User {
        service: service.to_owned(),
        namespace: namespace.map(str::to_owned),
        pid,
        start: holders::Stat::of(pid)?.start,
        view: view()?,
    };
    let mut text = serde_json::to_string(&user).ok()?;
    text.push('\n');
    Some(text)
}

impl User {
    /// `None` if the file names no process. It may be new, or from a start that was killed.
    pub(super) fn of(file: &File) -> Option<Self> {
        serde_json::from_str(&read_text(file)?).ok()
    }

    /// Returns `true` if it is another process than this one, and lives. Of a process with another view only the
    /// lock tells.
    pub(super) fn is_alive(&self) -> bool {
        self.pid != process::id()
            && view().as_ref() == Some(&self.view)
            && holders::Stat::of(self.pid)
                .is_some_and(|stat| stat.start == self.start && stat.is_alive())
    }

    /// What is known of it if no process with the lock can be seen.
    pub(super) fn hidden(&self) -> String {
        format!(
            "a process that this one cannot see (of another user or in another container; it runs service {:?})",
            self.service
        )
    }
}

/// A text that is equal for processes that see the same pids and the same clock. The namespace's digest is not: it
/// is of one runtime directory, and a data directory is in all of them.
fn view() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    // Kernels before 5.6 have one clock for all.
    let clock = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    // If `/proc` belongs to another pid namespace, it tells of other processes.
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
