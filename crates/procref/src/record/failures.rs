//! The note about failed starts, for the clients that wait.
//!
//! A waiting client reads from the kernel object that the start has ended, but the object has no room for the
//! reason. So if other clients wait, the starter writes the reason to a file while it holds the lock. The
//! next start that succeeds, or that fails while no client waits, removes the file. So does the process that
//! removes the kernel object of a service that was in use. The note is a hint, like
//! the record. Without the note, a client only lacks the reason.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{VERSION, read_file, remove_file, sys};
use crate::key::ServiceKey;
use crate::namespace;

/// The length of the longest reason that is stored, in characters. The error of the client whose start failed has the
/// rest.
const LONGEST: usize = 500;

/// Consecutive starts that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failures {
    version: u32,
    /// Time of the first failure, in nanoseconds since the Unix epoch. It is the same in all notes about consecutive
    /// failures.
    series: u64,
    pub(crate) count: u32,
    /// Why the last start failed, on one line.
    pub(crate) reason: String,
}

impl Failures {
    /// Returns the number of starts that have failed since `before` was read.
    pub(crate) fn since(&self, before: Option<&Self>) -> u32 {
        match before {
            Some(before) if before.series == self.series => self.count.saturating_sub(before.count),
            _ => self.count,
        }
    }

    fn next(before: Option<Self>, reason: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let (series, count) = match before {
            Some(before) => (before.series, before.count),
            None => (now.map_or(0, |now| now.as_nanos() as u64), 0),
        };
        // The other lines are the end of the log.
        let line = reason.lines().next().unwrap_or_default();
        Self {
            version: VERSION,
            series,
            count: count.saturating_add(1),
            reason: line.chars().take(LONGEST).collect(),
        }
    }
}

/// Returns the path of the note.
pub(crate) fn path(key: &ServiceKey) -> PathBuf {
    key.namespace
        .dir()
        .join(format!("{}.failed", key.file_stem()))
}

/// Returns the note, if it can be used.
pub(crate) fn read(key: &ServiceKey) -> Option<Failures> {
    let bytes = read_file(&path(key)).ok()??;
    let failures: Failures = serde_json::from_slice(&bytes).ok()?;
    (failures.version == VERSION).then_some(failures)
}

/// Counts one more failed start. The caller holds the lock.
pub(crate) fn add(key: &ServiceKey, reason: &str) {
    let failures = Failures::next(read(key), reason);
    let (path, draft) = (path(key), super::draft_path(key));
    let written = namespace::check_unchanged(&key.namespace)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let bytes = serde_json::to_vec(&failures).map_err(|error| error.to_string())?;
            let write = || {
                remove_file(&draft)?;
                sys::create_new(&draft)?.write_all(&bytes)?;
                fs::rename(&draft, &path)
            };
            write().map_err(|error| error.to_string())
        });
    if let Err(reason) = written {
        let service = key.name();
        tracing::debug!(service, path = %path.display(), reason, "could not write the note of a failed start");
    }
}

/// Removes the note.
pub(crate) fn clear(key: &ServiceKey) {
    let path = path(key);
    // Most starts find no note. The check of the namespace makes ten system calls, and is necessary only before a file is
    // removed.
    let exists = fs::symlink_metadata(&path).is_ok();
    if exists && namespace::check_unchanged(&key.namespace).is_ok() {
        // If the note cannot be removed, it describes earlier failures, which readers ignore.
        let _ = remove_file(&path);
    }
}

#[cfg(test)]
impl Failures {
    pub(crate) fn made_up(count: u32) -> Self {
        Self {
            version: VERSION,
            series: 1,
            count,
            reason: "it failed".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_since_a_client_began_to_wait() {
        let first = Failures::next(None, "no disk\nlast lines");
        assert_eq!((first.count, first.reason.as_str()), (1, "no disk"));
        assert_eq!(first.since(None), 1);
        let third = Failures::next(Some(Failures::next(Some(first.clone()), "a")), "b");
        assert_eq!((third.since(None), third.since(Some(&first))), (3, 2));
        assert_eq!(third.since(Some(&third)), 0);
        let other = Failures { series: 0, ..first };
        assert_eq!(other.since(Some(&third)), 1, "another series");
    }
}
