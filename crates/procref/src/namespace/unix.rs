//! Runtime directories by descriptor, owner and mode.

use std::fs::{self, DirBuilder};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, inotify};

use super::{Origin, VARIABLE, check_unchanged, variable};
use crate::error::{Error, Result};
use crate::namespace::Namespace;

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
    Ok((stat.st_dev, stat.st_ino))
}

/// A watch for records that are moved into a runtime directory. It starts when it is created.
pub(crate) struct RecordWatch(OwnedFd);

impl RecordWatch {
    pub(crate) fn new(namespace: &Namespace) -> Result<Self> {
        let dir = namespace.dir();
        check_unchanged(namespace)?;
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            // Records are written to another path and then renamed. The watch also ends when the directory is
            // removed.
            let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
            inotify::add_watch(&watch, dir, events)?;
            Ok(Self(watch))
        };
        watch().map_err(|error: rustix::io::Errno| {
            let advice = "could not watch it (see `sysctl fs.inotify`)";
            Error::runtime_dir_io(dir, advice, error.into())
        })
    }

    /// Waits for a record, and blocks the thread. Returns an error if the directory was removed.
    pub(crate) fn wait(&self, namespace: &Namespace) -> Result<()> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let read = loop {
            match rustix::io::read(&self.0, &mut room[..]) {
                Err(rustix::io::Errno::INTR) => {}
                read => break read.map(drop),
            }
        };
        read.map_err(|error| {
            let dir = namespace.dir();
            Error::runtime_dir_io(dir, "could not watch it", error.into())
        })?;
        check_unchanged(namespace)
    }
}

/// Returns `$XDG_RUNTIME_DIR/procref` if the session's directory exists and belongs to this user, and otherwise
/// `/tmp/procref-UID`.
///
/// The variable survives `sudo -E` and `su` without `-`. Without the check, root would create its own
/// directory in the user's, and procref would reject that directory for the user's next service.
pub(super) fn default_dir() -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let is_own = |dir: &PathBuf| {
        // The base directory specification says that relative paths must be ignored.
        dir.is_absolute()
            && fs::metadata(dir).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
    };
    Ok(match variable("XDG_RUNTIME_DIR").filter(is_own) {
        Some(dir) => dir.join("procref"),
        None => PathBuf::from(format!("/tmp/procref-{uid}")),
    })
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
    Ok((stat.st_dev, stat.st_ino))
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
