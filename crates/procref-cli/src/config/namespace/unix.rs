//! Private directories by mode, and a symbolic link to the project.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The files of the library in an unused directory.
pub(super) const KEPT: &[&str] = &[];

/// Creates a directory if it is missing. Its parent must exist.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

/// Fails if other users have access to the directory.
pub(super) fn check_closed(dir: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(dir)
        .map_err(|error| Error::io(format!("read the mode of {}", dir.display()), error))?;
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    let mode = metadata.mode() & 0o7777;
    let dir = dir.display();
    Err(Error::Failed(format!(
        "other users have access to the runtime directory {dir} (mode {mode:04o}; run `chmod 700 {dir}`)"
    )))
}

/// Returns the bytes of a path for its digest.
pub(super) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

pub(super) fn link(to: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, link)
}

pub(super) fn read_link(link: &Path) -> io::Result<PathBuf> {
    fs::read_link(link)
}

/// Returns `true` if the link is the only entry of the directory.
pub(super) fn has_only(dir: &Path, _: &str) -> io::Result<bool> {
    Ok(fs::read_dir(dir)?.count() == 1)
}

pub(super) fn remove(dir: &Path) -> io::Result<()> {
    fs::remove_dir(dir)
}
