//! What procref's command line needs of Windows, and has no place in a library's interface. Not covered by
//! semantic versioning.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::command;
use crate::process::{directories, security};

/// A directory for this user alone. One that is there already is no error.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    directories::create(dir)
}

/// What tells a file from every other that is there.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    directories::identity(file)
}

/// Whether a file is this user's, the administrators' or the system's: theirs are all files anyway.
pub fn is_trusted(file: &File) -> io::Result<bool> {
    Ok(security::is_ours(file, security::Kind::File)? || security::is_of_system(file)?)
}

/// Whose a directory is, and who may do what in it, in the security descriptor definition language.
pub fn access(dir: &Path) -> io::Result<String> {
    security::access(dir)
}

/// The user that this process runs as: its SID, as text.
pub fn own_sid() -> io::Result<String> {
    security::own_sid()
}

/// The program that a name means to a shell, in this process's PATH.
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    command::look_up(name, env::var_os("PATH").as_deref())
}
