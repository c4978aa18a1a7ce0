use std::ffi::OsString;

/// Returns the name, because `exec` searches the `PATH` itself.
pub(crate) fn find(name: OsString) -> OsString {
    name
}
