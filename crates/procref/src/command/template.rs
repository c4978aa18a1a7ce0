//! `{port}` and `{dir}` in what a service is started with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// What a template is made of, from left to right. Everything that is none of the four is itself, so
/// that JSON and regular expressions need no escaping.
enum Piece<'a> {
    Port,
    Dir,
    Bytes(&'a [u8]),
}

/// The template with `{port}` and `{dir}` filled in, and `{{port}}` and `{{dir}}` as `{port}` and
/// `{dir}`.
pub(super) fn expand(template: &OsStr, port: u16, dir: &Path) -> OsString {
    expand_bytes(template.as_bytes(), port, dir.as_os_str().as_bytes())
}

/// [`expand`] for a regular expression: the directory stands for itself and nothing else.
pub(super) fn expand_pattern(pattern: &str, port: u16, dir: &Path) -> String {
    let dir = regex_lite::escape(&dir.to_string_lossy());
    let expanded = expand_bytes(pattern.as_bytes(), port, dir.as_bytes());
    expanded.to_string_lossy().into_owned()
}

/// [`expand`] for the path of a request: the directory is percent-encoded, or a space in it would end
/// the path.
pub(super) fn expand_http_path(path: &str, port: u16, dir: &Path) -> String {
    let mut encoded = String::new();
    for &byte in dir.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    let expanded = expand_bytes(path.as_bytes(), port, encoded.as_bytes());
    expanded.to_string_lossy().into_owned()
}

/// Whether the template has a `{port}` to fill in.
pub(super) fn uses_port(template: &OsStr) -> bool {
    let mut rest = template.as_bytes();
    while !rest.is_empty() {
        match next(&mut rest) {
            Piece::Port => return true,
            Piece::Dir | Piece::Bytes(_) => {}
        }
    }
    false
}

fn expand_bytes(template: &[u8], port: u16, dir: &[u8]) -> OsString {
    let mut expanded = Vec::with_capacity(template.len());
    let mut rest = template;
    while !rest.is_empty() {
        match next(&mut rest) {
            Piece::Port => expanded.extend_from_slice(port.to_string().as_bytes()),
            Piece::Dir => expanded.extend_from_slice(dir),
            Piece::Bytes(bytes) => expanded.extend_from_slice(bytes),
        }
    }
    OsString::from_vec(expanded)
}

/// Takes the first piece off a template that is not empty.
fn next<'a>(rest: &mut &'a [u8]) -> Piece<'a> {
    let pieces = [
        (&b"{{port}}"[..], Piece::Bytes(b"{port}")),
        (b"{{dir}}", Piece::Bytes(b"{dir}")),
        (b"{port}", Piece::Port),
        (b"{dir}", Piece::Dir),
    ];
    for (written, piece) in pieces {
        if let Some(behind) = rest.strip_prefix(written) {
            *rest = behind;
            return piece;
        }
    }
    // Up to the next brace, and at least one byte.
    let brace = rest.iter().skip(1).position(|&byte| byte == b'{');
    let (bytes, behind) = rest.split_at(brace.map_or(rest.len(), |at| at + 1));
    *rest = behind;
    Piece::Bytes(bytes)
}
