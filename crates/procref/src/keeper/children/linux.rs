//! The processes of a service on Linux: the children of the keeper, which is their subreaper.

use std::fs;
use std::io;

use crate::kernel::counted::order::LaunchOrder;
use crate::process::Identity;

/// The processes of a service.
pub(in crate::keeper) struct Members;

impl Members {
    pub(in crate::keeper) fn new(_: Identity, _: &LaunchOrder) -> Self {
        Self
    }

    /// Calls `call` for each child of any thread. Returns `None` if the lists cannot be read.
    ///
    /// The list of a thread has the children that this thread has forked. A process that loses its parent is reparented to
    /// the first thread. The order in which the lists are read is not important: a child leaves its list only when this
    /// process reaps it, and its own children are in the list of the first thread before that.
    pub(in crate::keeper) fn for_each(&self, call: &mut dyn FnMut(i32)) -> Option<()> {
        for thread in fs::read_dir("/proc/self/task").ok()? {
            let list = thread.ok()?.path().join("children");
            let list = match fs::read_to_string(list) {
                Ok(list) => list,
                // A thread that has exited has no children.
                Err(error) if is_gone(&error) => continue,
                // This process may have no free descriptor.
                Err(_) => return None,
            };
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .for_each(&mut *call);
        }
        Some(())
    }
}

/// Returns `true` if the thread exited before its list was opened, or before it was read.
fn is_gone(error: &io::Error) -> bool {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    is_missing || error.raw_os_error() == Some(libc::ESRCH)
}
