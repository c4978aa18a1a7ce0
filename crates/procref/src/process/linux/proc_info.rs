//! Facts about a process that are shown to people.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::process::on_one_line;

/// The length of the longest command line that is shown, in bytes.
const LONGEST: u64 = 4096;

/// Returns the time since a process was started, from its start time in clock ticks since boot.
pub(crate) fn age(start: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let (seconds, ticks) = (start / per_second, start % per_second);
    let started =
        Duration::from_secs(seconds) + Duration::from_nanos(ticks * (1_000_000_000 / per_second));
    // Start times are on this clock, which continues while the machine is suspended.
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).map_or(Duration::ZERO, |now| now.saturating_sub(started))
}

pub(crate) fn started_at(start: u64) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(age(start)).unwrap_or(now)
}

/// Returns program and arguments on one line. Returns `None` if the process has no arguments, has exited, or is
/// hidden from this user.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    on_one_line(&bytes)
}
