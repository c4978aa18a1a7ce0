//! The children of a keeper.

use std::fs;

/// Calls `call` for each child of any thread. Returns `None` if the lists cannot be read.
///
/// The list of a thread has the children that this thread has forked. A process that loses its parent is reparented to
/// the first thread. The order in which the lists are read is not important: a child leaves its list only when this
/// process reaps it, and its own children are in the list of the first thread before that.
pub(super) fn for_each_child(call: &mut dyn FnMut(i32)) -> Option<()> {
    for thread in fs::read_dir("/proc/self/task").ok()? {
        let list = thread.ok()?.path().join("children");
        // A thread that has exited has no children.
        let Ok(list) = fs::read_to_string(list) else {
            continue;
        };
        list.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .for_each(&mut *call);
    }
    Some(())
}
