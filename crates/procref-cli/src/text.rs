//! Formats texts and times for people.

use std::time::Duration;

/// Returns a foreign text on one line. Each control character is escaped, because a terminal would move its cursor or
/// change its color.
pub(crate) fn shown(text: &str) -> String {
    without_controls(text, &[])
}

/// Escapes each control character except those in `kept`, for example as `\n` or `\u{1b}`.
pub(crate) fn without_controls(text: &str, kept: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !kept.contains(&c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

/// Returns the first `length` characters, and an ellipsis if the text is longer.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns a duration in its two largest units.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        return format!("{:.1}s", time.as_secs_f64());
    }
    let whole = humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    let units: Vec<&str> = whole.split(' ').take(2).collect();
    units.join(" ")
}
