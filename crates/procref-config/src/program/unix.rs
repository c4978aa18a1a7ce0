use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Returns the name, because `exec` searches the `PATH` itself.
pub fn find(name: OsString) -> OsString {
    name
}

/// Returns the file of a program that `exec` would execute with this `PATH`.
pub fn find_in(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let is_program = |file: &Path| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    if name.to_string_lossy().contains('/') {
        return Some(PathBuf::from(name)).filter(|file| is_program(file));
    }
    env::split_paths(path?)
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}
