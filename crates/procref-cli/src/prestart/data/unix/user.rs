//! The process that uses a data directory, as the lock file and the note name it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::process;

use serde::{Deserialize, Serialize};

use super::holders;
use crate::text::shown;

/// A process, identified by its pid, its start time and the view in which both are valid.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct User {
    service: String,
    /// The digest of the service's namespace, which is also in the name of its record.
    namespace: Option<String>,
    pub(super) pid: u32,
    start: u64,
    /// The [`view`] of the process that wrote this text.
    view: String,
}

/// Returns the text about a process, or `None` if its start time cannot be read.
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
    /// Returns `None` if the file names no process. The file may be new, or the start that created it was killed.
    pub(super) fn of(file: &File) -> Option<Self> {
        serde_json::from_str(&read_text(file)?).ok()
    }

    /// Returns `true` if this is another process and it is alive. Returns `false` for a process with another view, for
    /// which only the lock counts.
    pub(super) fn is_alive(&self) -> bool {
        self.pid != process::id()
            && view().as_ref() == Some(&self.view)
            && holders::Stat::of(self.pid)
                .is_some_and(|stat| stat.start == self.start && stat.is_alive())
    }

    /// Describes the user if this process cannot see a process with the lock.
    pub(super) fn hidden(&self) -> String {
        format!(
            "a process that this process cannot see (of another user or in another container; it runs service `{}`)",
            shown(&self.service)
        )
    }
}

/// Returns a text that is equal for processes that see the same pids and the same clock.
///
/// The namespace's digest is not sufficient. It belongs to one runtime directory, and several runtime
/// directories may use one data directory.
fn view() -> Option<String> {
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

/// Returns the first bytes of a file as text.
fn read_text(file: &File) -> Option<String> {
    const LONGEST: u64 = 4096;
    let mut file = file;
    file.rewind().ok()?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}
