use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Returns the path of the program with its extension.
///
/// The standard library tries only `.exe`, but PATHEXT has other extensions, and many programs are scripts (`npm.cmd`).
/// If no program is found, returns the name, and starting it fails.
pub fn find(name: OsString) -> OsString {
    let found = procref_winsys::program::find(&name, env::var_os("PATH").as_deref());
    found.map_or(name, Into::into)
}

/// Returns the file of a program that a start with this `PATH` would execute.
pub fn find_in(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    procref_winsys::program::find(name, path)
}
