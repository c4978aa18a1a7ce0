//! Formats texts and times for people.

use std::time::Duration;

pub(crate) use procref_config::text::{shortened, shown, without_controls};

/// Returns a duration in its two largest units.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    let whole = humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    let units: Vec<&str> = whole.split(' ').take(2).collect();
    units.join(" ")
}
