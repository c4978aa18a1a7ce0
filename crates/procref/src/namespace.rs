//! The runtime directory: where it is, and whether it is safe to use.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, inotify};

use crate::error::{Error, Result};
use crate::name::Namespace;
use crate::process::process_space;

/// Names the runtime directory where the builder's `base_dir` does not.
const VARIABLE: &str = "PROCREF_RUNTIME_DIR";

const GROUP_OR_WORLD: u32 = 0o077;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where a runtime directory is to be.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    dir: PathBuf,
    /// Permissions that others may not have.
    forbidden: u32,
}

impl Location {
    pub(crate) fn of(base_dir: Option<&Path>) -> Result<Self> {
        let (dir, forbidden) = match base_dir.map(Path::to_owned).or_else(|| variable(VARIABLE)) {
            // Somebody chose it, and may want others to be able to look into it. Nobody else may
            // be able to put a record or a link there.
            Some(dir) => (dir, WRITABLE_BY_OTHERS),
            None => (default_dir(), GROUP_OR_WORLD),
        };
        if dir.as_os_str().is_empty() {
            return Err(Error::runtime_dir(&dir, "the path is empty"));
        }
        // `link/` would follow the link.
        let dir = dir.components().collect();
        Ok(Self { dir, forbidden })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The runtime directory, checked; `None` where there is none.
    pub(crate) fn find(&self) -> Result<Option<Namespace>> {
        match rustix::fs::lstat(&self.dir) {
            Err(rustix::io::Errno::NOENT) => Ok(None),
            // Whatever else is wrong with it is said there.
            _ => self.checked().map(Some),
        }
    }

    fn checked(&self) -> Result<Namespace> {
        let dir = &self.dir;
        let identity = check(dir, self.forbidden)?;
        let canonical = dir
            .canonicalize()
            .map_err(|error| Error::runtime_dir_io(dir, "could not resolve it", error))?;
        Ok(Namespace::new(canonical, identity, process_space()))
    }
}

/// The runtime directory, created where it is missing, checked in any case.
pub(crate) fn open(base_dir: Option<&Path>) -> Result<Namespace> {
    let location = Location::of(base_dir)?;
    let dir = &location.dir;
    match DirBuilder::new().mode(0o700).recursive(true).create(dir) {
        Ok(()) => {}
        // Something else is there; what it is, is said below.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::runtime_dir_io(dir, "could not create it", error)),
    }
    location.checked()
}

/// Whether the namespace's directory is still where it was. Another one in its place is another
/// namespace, whose records are other processes'.
pub(crate) fn check_unchanged(namespace: &Namespace) -> Result<()> {
    let dir = namespace.dir();
    let stat = rustix::fs::lstat(dir).map_err(|error| {
        Error::runtime_dir_io(dir, "it was there when the service was built", error.into())
    })?;
    if (stat.st_dev, stat.st_ino) == namespace.identity() {
        return Ok(());
    }
    let reason = "another directory has taken its place since the service was built; build the \
                  service again";
    Err(Error::runtime_dir(dir, reason))
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

fn default_dir() -> PathBuf {
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) if dir.is_absolute() => dir.join("procref"),
        // The base directory specification says to ignore a relative one.
        _ => {
            let uid = rustix::process::geteuid().as_raw();
            PathBuf::from(format!("/tmp/procref-{uid}"))
        }
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(Into::into)
}

/// Device and inode of the directory, if it is one, ours, and closed to others.
///
/// It is opened first and looked at through the descriptor: what a path shows may be exchanged
/// between two looks.
fn check(dir: &Path, forbidden: u32) -> Result<(u64, u64)> {
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
    if stat.st_mode & forbidden != 0 {
        let reason = format!(
            "others can get in (mode {:04o}); run `chmod 700` on it",
            stat.st_mode & 0o7777
        );
        return Err(Error::runtime_dir(dir, reason));
    }
    Ok((stat.st_dev, stat.st_ino))
}
