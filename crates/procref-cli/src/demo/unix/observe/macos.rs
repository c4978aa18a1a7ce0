//! Observations on macOS: proc_pidinfo, and the files of keepers.

use procref_supervisor::process::ProcessInfo;

use super::file_exists;
use crate::error::Result;

/// The source of what is known about processes, for messages.
pub(in super::super) const PROCESSES: &str = "proc_pidinfo";

/// Returns the start time of the process that has this pid, unless it is a zombie.
pub(super) fn started(pid: u32) -> Option<u64> {
    Some(ProcessInfo::of(pid).ok()?.start)
}

/// Always returns `true`: a keeper counts the clients. Its object is a file.
pub(in super::super) fn is_file(_: &str) -> bool {
    true
}

/// Returns `true` if the file of the keeper exists.
pub(in super::super) fn object_exists(object: &str) -> Result<bool> {
    file_exists(object)
}
