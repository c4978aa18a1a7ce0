//! Runtime directories by descriptor, owner and mode.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::{Origin, VARIABLE};
use crate::error::{Error, Result};

#[cfg(target_os = "linux")]
pub(crate) use super::linux::{RecordWatch, default_dir};
#[cfg(target_os = "macos")]
pub(crate) use super::macos::{RecordWatch, default_dir};

/// Creates the directory, with its parents if the caller or the environment names it.
pub(super) fn create(dir: &Path, origin: Origin) -> Result<()> {
    if origin == Origin::Variable {
        check_parent(dir)?;
    }
    DirBuilder::new()
        .mode(0o700)
        .recursive(origin != Origin::Default)
        .create(dir)
        .map_err(|error| Error::RuntimeDir {
            path: dir.to_owned(),
            reason: format!(
                "could not create it: {error} (set PROCREF_RUNTIME_DIR to a directory that this user can create)"
            ),
            source: Some(error),
        })
}

/// Refuses to create a directory inside another user's directory. The variable may come from that user's
/// session. If root created the directory, the user's own processes could not use it.
fn check_parent(dir: &Path) -> Result<()> {
    let found = dir.ancestors().find_map(|dir| {
        let metadata = fs::metadata(dir).ok()?;
        Some((dir, metadata.uid()))
    });
    let own = rustix::process::geteuid().as_raw();
    let Some((parent, owner)) = found.filter(|(found, owner)| {
        // The check that follows reports errors of the directory itself.
        *found != dir && *owner != own && *owner != 0
    }) else {
        return Ok(());
    };
    let reason = format!(
        "it does not exist, and would be created in {}, which belongs to uid {owner}, while this process is \
         uid {own} (unset {VARIABLE}, which `sudo -E` and `su` without `-` keep, or create the directory first)",
        parent.display()
    );
    Err(Error::runtime_dir(dir, reason))
}

pub(super) fn canonical(dir: &Path) -> io::Result<PathBuf> {
    dir.canonicalize()
}

/// Returns device and inode.
pub(super) fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::lstat(dir)?;
    Ok(file_id(&stat))
}

/// Returns the advice at the end of an error about a directory that cannot be used.
fn advice(origin: Origin) -> String {
    match origin {
        Origin::Default => format!(
            "; any user can create it (set {VARIABLE} to a directory of your own, or have this one removed by \
             its owner or an administrator)"
        ),
        Origin::Named | Origin::Variable => {
            format!(" (name a directory of your own, for example by {VARIABLE})")
        }
    }
}

/// Returns device and inode of the directory. Checks that it is a directory, belongs to this user, and is closed to
/// others.
///
/// The directory is opened first and checked through the descriptor, because another process may replace the
/// file at a path between two checks.
pub(super) fn check(dir: &Path, origin: Origin) -> Result<(u64, u64)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| {
        let symlink = rustix::fs::lstat(dir)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        match error {
            rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP if symlink => {
                let reason = match origin {
                    Origin::Default => format!("it is a symbolic link{}", advice(origin)),
                    _ => "it is a symbolic link (name the directory that it leads to)".to_owned(),
                };
                Error::runtime_dir(dir, reason)
            }
            rustix::io::Errno::NOTDIR => {
                let reason = format!("it is not a directory{}", advice(origin));
                Error::runtime_dir(dir, reason)
            }
            error => Error::runtime_dir_io(dir, "could not open it", error.into()),
        }
    })?;
    let stat = rustix::fs::fstat(&opened).map_err(|error| {
        Error::runtime_dir_io(dir, "could not read its owner and mode", error.into())
    })?;
    let uid = rustix::process::geteuid().as_raw();
    if stat.st_uid != uid {
        let reason = format!(
            "it belongs to uid {}, and this process is uid {uid}{}",
            stat.st_uid,
            advice(origin)
        );
        return Err(Error::runtime_dir(dir, reason));
    }
    let forbidden = match origin {
        Origin::Default => 0o077,
        // Other users may have read access. No other user may create a record or a link in the directory.
        Origin::Named | Origin::Variable => 0o022,
    };
    if stat.st_mode & forbidden != 0 {
        let reason = format!(
            "other users have access (mode {:04o}; run `chmod 700` on it)",
            stat.st_mode & 0o7777
        );
        return Err(Error::runtime_dir(dir, reason));
    }
    Ok(file_id(&stat))
}

/// The files of procref in an unused directory: the choice of the kernel.
pub(super) const KEPT: &[&str] = &["kernel"];

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

/// Returns `true` if the link is the only entry of the directory, except the files that are kept.
pub(super) fn has_only(dir: &Path, _: &str) -> io::Result<bool> {
    let mut others = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        others += usize::from(!KEPT.iter().any(|kept| name == *kept));
    }
    Ok(others == 1)
}

/// Removes a directory with the files that are kept. If another process has just created a file there, restores them.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    let mut removed = Vec::new();
    for path in KEPT.iter().map(|kept| dir.join(kept)) {
        if let Ok(text) = fs::read(&path) {
            fs::remove_file(&path)?;
            removed.push((path, text));
        }
    }
    let result = fs::remove_dir(dir);
    if result.is_err() {
        for (path, text) in removed {
            fs::write(path, text)?;
        }
    }
    result
}

/// Returns device and inode. The types of these fields differ between systems.
#[expect(clippy::unnecessary_cast, reason = "the types differ between systems")]
fn file_id(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}
