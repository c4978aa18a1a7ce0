use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Maps the Unicode parts of a text, and keeps all other bytes.
pub(super) fn map(text: &OsStr, map: impl Fn(&str) -> String) -> OsString {
    let mut mapped = Vec::with_capacity(text.len());
    for chunk in text.as_bytes().utf8_chunks() {
        mapped.extend_from_slice(map(chunk.valid()).as_bytes());
        mapped.extend_from_slice(chunk.invalid());
    }
    OsString::from_vec(mapped)
}
