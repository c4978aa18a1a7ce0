//! Directories by what they inherit, and a file in place of a link: not every user may make links.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Result;

/// The file that the library keeps its locks in, and never removes.
const LOCKS: &str = "procref.lock";

/// Creates a directory if it is missing. Its parent exists.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    procref::windows::create_private_dir(dir)
}

/// One that was made here is closed, and whose it is was looked at.
pub(super) fn check_closed(_: &Path) -> Result<()> {
    Ok(())
}

/// What is digested of a path: as text, since it has to be the same in every build. Whoever has paths that are
/// no text has them replaced alike.
pub(super) fn bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

pub(super) fn link(to: &Path, link: &Path) -> io::Result<()> {
    let Some(text) = to.to_str() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the project's path is no Unicode",
        ));
    };
    if link.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Whole as soon as it is there. Of two that come here at once both write the same.
    let whole = link.with_extension(std::process::id().to_string());
    fs::write(&whole, text)?;
    fs::rename(&whole, link)
}

pub(super) fn read_link(link: &Path) -> io::Result<PathBuf> {
    fs::read_to_string(link).map(PathBuf::from)
}

/// Whether nothing but that is in it.
pub(super) fn has_only(dir: &Path, link: &str) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != link && name != LOCKS {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(LOCKS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir(dir)
}
