//! Formats foreign texts for people.

/// Returns a foreign text on one line. Each control character is escaped, because a terminal would move its cursor or
/// change its color.
pub fn shown(text: &str) -> String {
    without_controls(text, &[])
}

/// Escapes each control character except those in `kept`, for example as `\n` or `\u{1b}`.
pub fn without_controls(text: &str, kept: &[char]) -> String {
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
pub fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
