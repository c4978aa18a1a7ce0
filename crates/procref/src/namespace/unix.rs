//! Directories by descriptor, owner and mode.

use std::fs::DirBuilder;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, inotify};

use super::{Forbidden, VARIABLE, check_unchanged, variable};
use crate::error::{Error, Result};
use crate::name::Namespace;

pub(super) fn create(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(dir)
}

pub(super) fn canonical(dir: &Path) -> io::Result<PathBuf> {
    dir.canonicalize()
}

/// Device and inode.
pub(super) fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::lstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Records that come into a runtime directory, from when this is made.
pub(crate) struct Changes(OwnedFd);

impl Changes {
    pub(crate) fn of(namespace: &Namespace) -> Result<Self> {
        let dir = namespace.dir();
        check_unchanged(namespace)?;
        let watch = || {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
            // Records are written beside their place and moved into it. The directory's own end is told, too.
            let events = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR;
            inotify::add_watch(&watch, dir, events)?;
            Ok(Self(watch))
        };
        watch().map_err(|error: rustix::io::Errno| {
            let advice = "could not watch it (see `sysctl fs.inotify`)";
            Error::runtime_dir_io(dir, advice, error.into())
        })
    }

    /// Waits for one. Blocks the thread. An error if the directory is gone.
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

pub(super) fn default_dir() -> Result<PathBuf> {
    Ok(match variable("XDG_RUNTIME_DIR") {
        Some(dir) if dir.is_absolute() => dir.join("procref"),
        // The base directory specification says to ignore a relative one.
        _ => {
            let uid = rustix::process::geteuid().as_raw();
            PathBuf::from(format!("/tmp/procref-{uid}"))
        }
    })
}

/// Device and inode of the directory, if it is one, ours, and closed to others.
///
/// It is opened first and looked at through the descriptor: what a path shows may be exchanged
/// between two looks.
pub(super) fn check(dir: &Path, forbidden: Forbidden) -> Result<(u64, u64)> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| {
        let symlink = rustix::fs::lstat(dir)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        match error {
            rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP if symlink => Error::runtime_dir(
                dir,
                "it is a symbolic link; name the directory that it leads to",
            ),
            rustix::io::Errno::NOTDIR => Error::runtime_dir(dir, "it is not a directory"),
            error => Error::runtime_dir_io(dir, "could not open it", error.into()),
        }
    })?;
    let stat = rustix::fs::fstat(&opened)
        .map_err(|error| Error::runtime_dir_io(dir, "could not look at it", error.into()))?;
    let uid = rustix::process::geteuid().as_raw();
    if stat.st_uid != uid {
        let reason = format!(
            "it belongs to uid {}, and this process is uid {uid}; name a directory of your own \
             (base_dir, or {VARIABLE})",
            stat.st_uid
        );
        return Err(Error::runtime_dir(dir, reason));
    }
    let forbidden = match forbidden {
        Forbidden::Anything => 0o077,
        Forbidden::Writing => 0o022,
    };
    if stat.st_mode & forbidden != 0 {
        let reason = format!(
            "others can get in (mode {:04o}); run `chmod 700` on it",
            stat.st_mode & 0o7777
        );
        return Err(Error::runtime_dir(dir, reason));
    }
    Ok((stat.st_dev, stat.st_ino))
}
