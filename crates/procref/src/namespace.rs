//! The runtime directory: where it is, and whether it is safe to use.

use std::env;
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::name::Digest;
use crate::process::{self, View};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::Changes;

/// Part of every namespace digest: processes of two layouts of the kernel object
/// must not meet on one object.
const LAYOUT_VERSION: u8 = 3;

/// Names the runtime directory where the builder's `base_dir` does not.
const VARIABLE: &str = "PROCREF_RUNTIME_DIR";

/// The source of a runtime directory's path, which decides what may be created and what others may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The caller of the library names it. Missing parents are created.
    Named,
    /// The environment names it, which may be another user's: `sudo -E` and `su` without `-` keep it.
    Variable,
    /// procref chooses it. Only the directory itself is created, and others have no permission at all.
    Default,
}

/// A runtime directory as one group of processes sees it.
///
/// Two processes meet if they have the same directory under the same path, and equal views.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    dir: Arc<Path>,
    identity: (u64, u64),
    view: View,
    digest: Digest,
}

impl Namespace {
    /// `identity` tells the directory from another one that has, or had, the same path:
    /// two processes that see different directories never meet.
    pub(crate) fn new(dir: PathBuf, identity: (u64, u64), view: View) -> Self {
        let seen: Vec<u8> = view.0.into_iter().flat_map(u64::to_le_bytes).collect();
        let digest = Digest::of(&[
            &[LAYOUT_VERSION],
            dir.as_os_str().as_encoded_bytes(),
            &identity.0.to_le_bytes(),
            &identity.1.to_le_bytes(),
            &seen,
        ]);
        Self {
            dir: dir.into(),
            identity,
            view,
            digest,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// What the process that opened the directory saw of the machine.
    pub(crate) fn view(&self) -> View {
        self.view
    }

    /// Device and inode of the directory when it was opened.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Where a runtime directory is to be.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    dir: PathBuf,
    origin: Origin,
}

impl Location {
    /// The path is absolute from here on: a relative one means another directory after `chdir`, and to a
    /// service that starts in a directory of its own.
    pub(crate) fn of(base_dir: Option<&Path>) -> Result<Self> {
        let (dir, origin) = match (base_dir, variable(VARIABLE)) {
            (Some(dir), _) => (dir.to_owned(), Origin::Named),
            (None, Some(dir)) => (dir, Origin::Variable),
            (None, None) => (sys::default_dir()?, Origin::Default),
        };
        if dir.as_os_str().is_empty() {
            return Err(Error::runtime_dir(&dir, "the path is empty"));
        }
        let absolute = path::absolute(&dir).map_err(|error| {
            Error::runtime_dir_io(&dir, "could not find the working directory", error)
        })?;
        // `link/` would follow the link.
        let dir = absolute.components().collect();
        Ok(Self { dir, origin })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The runtime directory, checked; `None` where there is none.
    pub(crate) fn find(&self) -> Result<Option<Namespace>> {
        // A process that cannot share services hears of it at its first use, also where there are none yet.
        process::view()?;
        match fs::symlink_metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Whatever else is wrong with it is said there.
            _ => self.checked().map(Some),
        }
    }

    /// Creates the directory if it is missing.
    pub(crate) fn create(&self) -> Result<()> {
        match sys::create(&self.dir, self.origin) {
            // Another process was faster, or something else is there. The check tells which.
            Err(Error::RuntimeDir {
                source: Some(source),
                ..
            }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    fn checked(&self) -> Result<Namespace> {
        let dir = &self.dir;
        let identity = sys::check(dir, self.origin)?;
        let canonical = sys::canonical(dir)
            .map_err(|error| Error::runtime_dir_io(dir, "could not resolve it", error))?;
        Ok(Namespace::new(canonical, identity, process::view()?))
    }
}

/// The runtime directory, created where it is missing, checked in any case.
pub(crate) fn open(base_dir: Option<&Path>) -> Result<Namespace> {
    let location = Location::of(base_dir)?;
    location.create()?;
    location.checked()
}

/// Whether the namespace's directory is still where it was, and this process sees of the machine what it saw
/// then. Another directory in its place, or another view, is another namespace, whose records are other
/// processes'.
pub(crate) fn check_unchanged(namespace: &Namespace) -> Result<()> {
    process::check_view(namespace.view())?;
    let dir = namespace.dir();
    let identity = sys::identity(dir).map_err(|error| {
        Error::runtime_dir_io(dir, "it was there when the service was built", error)
    })?;
    if identity == namespace.identity() {
        return Ok(());
    }
    let reason = "another directory has taken its place since the service was built; build the \
                  service again";
    Err(Error::runtime_dir(dir, reason))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(Into::into)
}
