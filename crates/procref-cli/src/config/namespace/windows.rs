//! Private directories by their access list, and a file in place of a link, because not every user may create links.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Result;

/// The library's lock file, which the library never removes.
const LOCKS: &str = "procref.lock";

/// The files of the library in an unused directory.
pub(super) const KEPT: &[&str] = &[LOCKS];

/// Creates a directory if it is missing. Its parent must exist.
pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    procref_winsys::directory::create(dir)
}

/// Succeeds, because [`create_private`] creates closed directories, and the library checks the owner.
pub(super) fn check_closed(_: &Path) -> Result<()> {
    Ok(())
}

/// Returns the bytes of a path for its digest.
///
/// The path is converted to text, so that the digest is the same in each build. Invalid characters are replaced.
pub(super) fn bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

pub(super) fn link(to: &Path, link: &Path) -> io::Result<()> {
    let Some(text) = to.to_str() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the project's path is not Unicode",
        ));
    };
    if link.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // The rename makes the file appear as a whole. Two processes that do this at the same time write the same text.
    let whole = link.with_extension(std::process::id().to_string());
    fs::write(&whole, text)?;
    fs::rename(&whole, link)
}

pub(super) fn read_link(link: &Path) -> io::Result<PathBuf> {
    fs::read_to_string(link).map(PathBuf::from)
}

/// Returns `true` if the directory has no entries other than the link and the lock file.
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
