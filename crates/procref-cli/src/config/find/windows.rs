//! By owner. Who may write to it is not looked at: that is told by lists in which everything is possible, and
//! those of a directory that others may write to are inherited.

use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Where a user's configurations are.
pub(super) fn base() -> Option<PathBuf> {
    let base = env::var_os("APPDATA").map(PathBuf::from);
    base.filter(|dir| dir.is_absolute())
}

pub(super) fn open(file: &Path) -> io::Result<File> {
    File::open(file)
}

/// Why it may be somebody else who tells what to execute: anybody can put a file into `C:\`.
pub(super) fn doubt(opened: &File) -> io::Result<Option<String>> {
    let doubt = "it belongs neither to this user, nor to the administrators or the system";
    Ok((!procref::windows::is_trusted(opened)?).then(|| doubt.to_owned()))
}
