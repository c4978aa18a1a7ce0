use std::ffi::{OsStr, OsString};

/// Maps a text if it is Unicode. The library does not change other texts either.
pub(super) fn map(text: &OsStr, map: impl Fn(&str) -> String) -> OsString {
    match text.to_str() {
        Some(text) => map(text).into(),
        None => text.to_owned(),
    }
}
