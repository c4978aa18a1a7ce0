//! Runtime directories by handle and owner.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use procref_winsys::directory::{self, DirectoryWatch};
use procref_winsys::security::{self, Kind};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
};

use super::{Origin, VARIABLE, check_unchanged, variable};
use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// Creates the directory with an access list that admits this user only. Missing parents are created with the lists
/// that they inherit.
pub(super) fn create(dir: &Path, _: Origin) -> Result<()> {
    let parents = dir.parent().map_or(Ok(()), std::fs::create_dir_all);
    parents
        .and_then(|()| directory::create(dir))
        .map_err(|error| Error::runtime_dir_io(dir, "could not create it", error))
}

/// Returns the path in the form that programs expect. Many do not accept paths that begin with `\\\\?\\`.
pub(super) fn canonical(dir: &Path) -> io::Result<PathBuf> {
    /// The longest path that is converted, in UTF-16 units. Without the prefix, programs accept 260 units,
    /// and a file name must fit, too.
    const LONGEST: usize = 160;
    let verbatim = dir.canonicalize()?;
    let plain = verbatim
        .to_str()
        .and_then(|path| path.strip_prefix(r"\\?\"));
    Ok(match plain {
        Some(path) if path.get(1..2) == Some(":") && path.len() <= LONGEST => path.into(),
        _ => verbatim,
    })
}

fn open(dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(dir)
}

/// Returns the numbers of volume and file.
pub(super) fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    directory::identity(&open(dir)?)
}

/// Returns the numbers of volume and file of the directory. Checks that it is a directory and belongs to this user.
///
/// Its access list is not checked. A directory that procref creates is closed to other users. If a user
/// creates the directory, the list is the user's choice.
pub(super) fn check(dir: &Path, _: Origin) -> Result<(u64, u64)> {
    let failed = |what, error| Error::runtime_dir_io(dir, what, error);
    let opened = open(dir).map_err(|error| failed("could not open it", error))?;
    let metadata = opened
        .metadata()
        .map_err(|error| failed("could not read its attributes", error))?;
    if metadata.is_symlink() {
        let reason = "it is a symbolic link or a junction (name the directory that it leads to)";
        return Err(Error::runtime_dir(dir, reason));
    }
    if !metadata.is_dir() {
        return Err(Error::runtime_dir(dir, "it is not a directory"));
    }
    let is_ours = security::is_ours(&opened, Kind::File)
        .map_err(|error| failed("could not read its owner", error))?;
    if !is_ours {
        let reason = format!(
            "it belongs to another user (name a directory of your own, for example by {VARIABLE})"
        );
        return Err(Error::runtime_dir(dir, reason));
    }
    directory::identity(&opened).map_err(|error| failed("could not read its attributes", error))
}

pub(super) fn default_dir() -> Result<PathBuf> {
    match variable("LOCALAPPDATA") {
        Some(dir) if dir.is_absolute() => Ok(dir.join("procref")),
        _ => {
            let reason = format!("LOCALAPPDATA is not set (set it, or {VARIABLE})");
            Err(Error::runtime_dir(
                Path::new(r"%LOCALAPPDATA%\procref"),
                reason,
            ))
        }
    }
}

/// A watch for files that appear in a runtime directory. It starts when it is created.
pub(crate) struct RecordWatch(DirectoryWatch);

impl RecordWatch {
    pub(crate) fn new(namespace: &Namespace) -> Result<Self> {
        let dir = namespace.dir();
        check_unchanged(namespace)?;
        let watched = DirectoryWatch::new(dir);
        watched
            .map(Self)
            .map_err(|error| Error::runtime_dir_io(dir, "could not watch it", error))
    }

    /// Waits for a change, and blocks the thread. Returns an error if the directory was removed.
    pub(crate) fn wait(&self, namespace: &Namespace) -> Result<()> {
        let dir = namespace.dir();
        self.0
            .wait()
            .map_err(|error| Error::runtime_dir_io(dir, "could not watch it", error))?;
        check_unchanged(namespace)
    }
}

/// The lock file, which procref never removes.
const LOCKS: &str = "procref.lock";

/// The files of procref in an unused directory.
pub(super) const KEPT: &[&str] = &[LOCKS];

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
