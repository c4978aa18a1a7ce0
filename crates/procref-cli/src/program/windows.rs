//! The program that a name means.

use std::ffi::OsString;

/// With its ending: of those in PATHEXT the standard library knows only `.exe`, and many programs that are
/// called by name are scripts (`npm.cmd`). A name that nothing is found for is left, for the error.
pub(crate) fn find(name: OsString) -> OsString {
    let found = procref::windows::find_program(&name);
    found.map_or(name, Into::into)
}
