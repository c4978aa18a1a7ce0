//! The processes of a local service, found in `/proc`.

use std::collections::HashMap;
use std::fs;

use procref::Status;
use procref::process::Process;

/// Kills each process of the service. Returns how many there were.
///
/// All of them are below the supervisor, which adopts a process that loses its parent. If the supervisor was killed, the
/// process that the service's record names and the processes below it are left.
pub(super) fn kill(status: &Status) -> usize {
    let parents = parents();
    let instance = status.instance().filter(|instance| instance.is_alive());
    let roots = [status.supervisor(), instance.map(procref::ServiceInfo::pid)];
    let roots: Vec<u32> = roots
        .into_iter()
        .flatten()
        .filter(|pid| *pid != 0)
        .collect();
    let below = |pid: u32| {
        let mut pid = pid;
        // A process that exits while the list is read can make a loop of stale entries.
        for _ in 0..parents.len() {
            let Some(parent) = parents.get(&pid) else {
                break;
            };
            if roots.contains(parent) {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let mut killed = 0;
    for pid in parents.keys().copied().filter(|pid| below(*pid)) {
        // The pid may belong to another process since it was read, whose parent is then another one.
        let Ok(process) = Process::open(pid) else {
            continue;
        };
        if parent(pid) == parents.get(&pid).copied() && process.kill().is_ok() {
            killed += 1;
        }
    }
    if let Some(instance) = instance {
        let process = Process::open(instance.pid());
        if process.is_ok_and(|process| instance.is_alive() && process.kill().is_ok()) {
            killed += 1;
        }
    }
    killed
}

/// Returns the parents of all processes that are not zombies.
fn parents() -> HashMap<u32, u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// Returns the parent of a process. Returns `None` if the process does not exist or is a zombie.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses, and may contain any character.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.next()?.parse().ok())?
}
