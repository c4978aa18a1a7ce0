//! Placeholders such as `{port}` in the command line of a program.

use std::ffi::{OsStr, OsString};
#[cfg(unix)]
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// Replaces every `{NAME}` that has a value, and `{{NAME}}` of such a name by `{NAME}`. All other braces are
/// literal, so JSON, shell, awk and regular expressions need no escaping.
///
/// procref uses this function for the port and the directory of a [`ServiceCommand`](crate::ServiceCommand).
/// The function is public for programs that pass the service's address to other programs.
///
/// ```
/// use std::ffi::OsString;
///
/// let port = |name: &str| (name == "port").then(|| OsString::from("5432"));
/// let filled = procref::fill_in("awk '{print}' {{port}}={port}", port);
/// assert_eq!(filled, "awk '{print}' {port}=5432");
/// ```
///
/// On Windows a text that is not Unicode is returned unchanged.
pub fn fill_in(text: impl AsRef<OsStr>, value: impl Fn(&str) -> Option<OsString>) -> OsString {
    filled(text.as_ref(), value)
}

#[cfg(unix)]
fn filled(text: &OsStr, value: impl Fn(&str) -> Option<OsString>) -> OsString {
    let mut rest = text.as_bytes();
    let mut filled = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        match next(&mut rest, &value) {
            Piece::Value(value) => filled.extend_from_slice(value.as_bytes()),
            Piece::Bytes(bytes) => filled.extend_from_slice(bytes),
        }
    }
    OsString::from_vec(filled)
}

#[cfg(windows)]
fn filled(text: &OsStr, value: impl Fn(&str) -> Option<OsString>) -> OsString {
    let Some(unicode) = text.to_str() else {
        return text.to_owned();
    };
    let mut rest = unicode.as_bytes();
    let mut filled = OsString::with_capacity(rest.len());
    while !rest.is_empty() {
        match next(&mut rest, &value) {
            Piece::Value(value) => filled.push(value),
            // The text was split only at braces, so the piece is valid UTF-8.
            Piece::Bytes(bytes) => filled.push(&*String::from_utf8_lossy(bytes)),
        }
    }
    filled
}

/// A piece of a template.
enum Piece<'a> {
    Value(OsString),
    Bytes(&'a [u8]),
}

/// Removes and returns the first piece of a template that is not empty.
fn next<'a>(rest: &mut &'a [u8], value: impl Fn(&str) -> Option<OsString>) -> Piece<'a> {
    let text = *rest;
    if let Some(name) = text.strip_prefix(b"{{").and_then(name) {
        let end = name.len() + 4;
        if text.get(end - 1) == Some(&b'}') && value(name).is_some() {
            *rest = &text[end..];
            return Piece::Bytes(&text[1..end - 1]);
        }
    }
    if let Some(name) = text.strip_prefix(b"{").and_then(name) {
        if let Some(value) = value(name) {
            *rest = &text[name.len() + 2..];
            return Piece::Value(value);
        }
    }
    // The piece ends before the next brace, and has at least one byte.
    let brace = text.iter().skip(1).position(|&byte| byte == b'{');
    let (bytes, behind) = text.split_at(brace.map_or(text.len(), |at| at + 1));
    *rest = behind;
    Piece::Bytes(bytes)
}

/// The text before the next `}`.
fn name(text: &[u8]) -> Option<&str> {
    /// No name is longer. Without a limit, many open braces would take quadratic time.
    const LONGEST: usize = 1024;
    let end = text.iter().take(LONGEST).position(|&byte| byte == b'}')?;
    std::str::from_utf8(&text[..end]).ok()
}

/// Returns the template with `{port}` and `{dir}` filled in.
pub(crate) fn expand(template: &OsStr, port: u16, dir: &Path) -> OsString {
    fill_in(template, |name| match name {
        "port" => Some(port.to_string().into()),
        "dir" => Some(dir.into()),
        _ => None,
    })
}

/// Returns the template for messages, with `{port}` in place of `{{port}}`.
pub(crate) fn shown(template: &OsStr) -> String {
    let itself = |name: &str| {
        let is_known = matches!(name, "port" | "dir");
        is_known.then(|| format!("{{{name}}}").into())
    };
    fill_in(template, itself).to_string_lossy().into_owned()
}

/// Like [`expand`], for a regular expression. The directory is escaped, so that it matches literally.
pub(crate) fn expand_pattern(pattern: &str, port: u16, dir: &Path) -> String {
    let dir = regex_lite::escape(&dir.to_string_lossy());
    let expanded = expand(OsStr::new(pattern), port, Path::new(&dir));
    expanded.to_string_lossy().into_owned()
}

/// Like [`expand`], for the path of a request. The directory is percent-encoded, because a space in it would
/// end the path.
pub(crate) fn expand_http_path(path: &str, port: u16, dir: &Path) -> String {
    let mut encoded = String::new();
    for &byte in dir.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    let expanded = expand(OsStr::new(path), port, Path::new(&encoded));
    expanded.to_string_lossy().into_owned()
}

/// Returns `true` if the template contains a `{port}` to fill in.
pub(crate) fn uses_port(template: &OsStr) -> bool {
    let dir = Path::new("");
    expand(template, 1, dir) != expand(template, 2, dir)
}
