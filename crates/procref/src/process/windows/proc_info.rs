//! Facts about a process that are shown to people.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::time::{Duration, SystemTime};

use procref_winsys::process::{image, open};

/// The time from 1601, where Windows starts to count, to 1970.
const TO_UNIX: Duration = Duration::from_secs(11_644_473_600);

/// Returns the time when a process was created.
pub(crate) fn started_at(start: u64) -> SystemTime {
    let since = Duration::new(start / 10_000_000, (start % 10_000_000) as u32 * 100);
    SystemTime::UNIX_EPOCH + since.saturating_sub(TO_UNIX)
}

/// Returns the time since a process was created. The result is wrong if the clock was set after the creation.
pub(crate) fn age(start: u64) -> Duration {
    let started = started_at(start);
    SystemTime::now()
        .duration_since(started)
        .unwrap_or_default()
}

/// Returns the path of a process's program, or `None` if the process has exited or cannot be opened.
///
/// The arguments are missing: they are in the memory of the process, which other processes may be unable to read.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let process = open(pid, 0).ok()??;
    let path = image(&process).ok()?;
    Some(OsString::from_wide(&path).to_string_lossy().into_owned())
}
