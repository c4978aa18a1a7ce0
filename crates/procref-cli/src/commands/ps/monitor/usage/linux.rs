//! Reads the tree of processes from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use super::TreeUsage;
use crate::process_tree::children;

/// `true` if [`tree_usage`] returns values.
pub(in super::super) const IS_AVAILABLE: bool = true;

/// Returns what the processes of a service use. Returns `None` if none of them can be read.
///
/// The supervisor adopts every process of its service that loses its parent. So the service consists of the
/// supervisor's children and their descendants. A service that a callback has started is not a child of its supervisor.
/// The supervisor also adopts the supervisors of services that its own service has started, which count for themselves.
/// `managed` are the known supervisors and instances.
pub(super) fn tree_usage(
    supervisor: Option<u32>,
    instance: Option<u32>,
    managed: &HashSet<u32>,
) -> Option<TreeUsage> {
    let is_foreign = |pid: u32| managed.contains(&pid) && Some(pid) != instance;
    // Services of other namespaces are not known here.
    let is_adopted = |pid: u32| Some(pid) != instance && procref::is_managed(pid).unwrap_or(false);
    let mut pending: Vec<u32> = supervisor.map(children).unwrap_or_default();
    pending.retain(|&pid| !is_adopted(pid));
    pending.extend(instance);
    let mut visited = HashSet::new();
    let mut usages = Vec::new();
    while let Some(pid) = pending.pop() {
        if is_foreign(pid) || !visited.insert(pid) {
            continue;
        }
        usages.extend(ProcessUsage::read(pid));
        pending.extend(children(pid));
    }
    // The time of exited processes counts for the supervisor if it was their parent.
    let reaped = supervisor
        .and_then(ProcessUsage::read)
        .map_or(0, |it| it.reaped_ticks);
    total(&usages, reaped)
}

fn total(usages: &[ProcessUsage], reaped: u64) -> Option<TreeUsage> {
    let most_shared = usages.iter().map(|it| it.shared_pages).max()?;
    let private = usages
        .iter()
        .map(|it| it.pages.saturating_sub(it.shared_pages));
    let pages = private.sum::<u64>() + most_shared;
    let ticks = usages
        .iter()
        .map(|it| it.ticks + it.reaped_ticks)
        .sum::<u64>()
        + reaped;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(TreeUsage {
        memory: pages * rustix::param::page_size() as u64,
        time: Duration::from_millis(ticks.saturating_mul(1000) / per_second),
    })
}

/// What one process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcessUsage {
    /// Processor time of the process.
    ticks: u64,
    /// Processor time of the children that the process has waited for, and of their children.
    reaped_ticks: u64,
    /// Resident pages.
    pages: u64,
    /// Resident pages of files and of shared memory.
    shared_pages: u64,
}

impl ProcessUsage {
    /// Returns `None` if the process has exited or is hidden from this user.
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        Self::parse(&stat, &statm)
    }

    /// Parses `/proc/PID/stat` and `/proc/PID/statm`.
    fn parse(stat: &str, statm: &str) -> Option<Self> {
        // The second field is the program's name in parentheses. It may contain spaces and parentheses.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut times = rest
            .split_whitespace()
            .skip(11)
            .map_while(|it| it.parse::<i64>().ok());
        let mut time = || times.next().map(|it| u64::try_from(it).unwrap_or(0));
        let (user, system, reaped_user, reaped_system) = (time()?, time()?, time()?, time()?);
        let mut sizes = statm
            .split_whitespace()
            .skip(1)
            .map_while(|it| it.parse().ok());
        Some(Self {
            ticks: user + system,
            reaped_ticks: reaped_user + reaped_system,
            pages: sizes.next()?,
            shared_pages: sizes.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_usage_is_parsed_after_a_name_with_parentheses() {
        let stat = "7 (a) R 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 300 400 20 0 1 0 99 1 2";
        let parsed = ProcessUsage::parse(stat, "5000 120 70 1 0 30 0\n");
        let expected = ProcessUsage {
            ticks: 30,
            reaped_ticks: 700,
            pages: 120,
            shared_pages: 70,
        };
        assert_eq!(parsed, Some(expected));
        assert_eq!(ProcessUsage::parse("7 (a) S 1", "1 2 3"), None);
        assert_eq!(ProcessUsage::parse("", ""), None);
    }

    #[test]
    fn shared_memory_of_a_tree_counts_once() {
        let process = |pages, shared_pages| ProcessUsage {
            ticks: 100,
            reaped_ticks: 1,
            pages,
            shared_pages,
        };
        let total = total(&[process(50, 40), process(30, 25)], 98).expect("a total");
        assert_eq!(total.memory, 55 * rustix::param::page_size() as u64);
        let per_second = rustix::param::clock_ticks_per_second();
        assert_eq!(total.time, Duration::from_millis(300 * 1000 / per_second));
    }
}
