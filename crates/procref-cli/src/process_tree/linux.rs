//! The children of a process, from `/proc`.

use std::fs;

/// Returns the children of all threads of a process. Returns none if the process has exited or cannot be read.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children"));
        let pids = list.unwrap_or_default();
        children.extend(
            pids.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    children
}
