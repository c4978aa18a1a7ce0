//! What Windows tells people about a process.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt as _;
use std::time::{Duration, SystemTime};

/// From 1601, where Windows counts from, to 1970.
const TO_UNIX: Duration = Duration::from_secs(11_644_473_600);

pub(crate) fn started_at(start: u64) -> SystemTime {
    let since = Duration::new(start / 10_000_000, (start % 10_000_000) as u32 * 100);
    SystemTime::UNIX_EPOCH + since.saturating_sub(TO_UNIX)
}

/// How long ago a process was started, by its creation time. Wrong where the clock was set since.
pub(crate) fn age(start: u64) -> Duration {
    let started = started_at(start);
    SystemTime::now()
        .duration_since(started)
        .unwrap_or_default()
}

/// The program. Its arguments are in its own memory, which nobody else has to be able to read. `None`:
/// it has ended, or is not shown to this user.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let process = super::open(pid, 0).ok()??;
    let path = super::image(&process).ok()?;
    Some(OsString::from_wide(&path).to_string_lossy().into_owned())
}
