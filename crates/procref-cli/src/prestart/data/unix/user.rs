//! The process that uses a data directory, as the lock file and the note name it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process;

use serde::{Deserialize, Serialize};

use super::sys::{self, Stat, view};
use crate::text::shown;

/// A process, identified by its pid, its start time and the view in which both are valid.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct User {
    service: String,
    /// The digest of the service's namespace, which is also in the name of its record.
    namespace: Option<String>,
    pub(super) pid: u32,
    start: u64,
    /// The [`view()`] of the process that wrote this text.
    view: String,
}

/// Returns the text about a process, or `None` if its start time cannot be read.
pub(in super::super) fn text(service: &str, namespace: Option<&str>, pid: u32) -> Option<String> {
    let user = User {
        service: service.to_owned(),
        namespace: namespace.map(str::to_owned),
        pid,
        start: Stat::of(pid)?.start,
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
            && Stat::of(self.pid).is_some_and(|stat| stat.start == self.start && stat.is_alive())
    }

    /// Describes the user if this process cannot see a process with the lock.
    pub(super) fn hidden(&self) -> String {
        format!(
            "a process that this process cannot see ({}; it runs service `{}`)",
            sys::HIDDEN,
            shown(&self.service)
        )
    }
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
