//! Facts about a process that are shown to people.

use std::time::{Duration, SystemTime};

use super::arguments;
use crate::process::on_one_line;

/// Returns the time when a process was started.
pub(crate) fn started_at(start: u64) -> SystemTime {
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(start));
    since.unwrap_or_else(SystemTime::now)
}

/// Returns the time since a process was started. The result is wrong if the clock was set after the start.
pub(crate) fn age(start: u64) -> Duration {
    let started = started_at(start);
    SystemTime::now()
        .duration_since(started)
        .unwrap_or_default()
}

/// Returns program and arguments on one line. Returns `None` if the process has no arguments, has exited, or is
/// hidden from this user.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    on_one_line(&arguments::line(pid)?)
}
