//! The runtime directory: where it is, and whether it is safe to use.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::name::Namespace;
use crate::process::process_space;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::Changes;

/// Names the runtime directory where the builder's `base_dir` does not.
const VARIABLE: &str = "PROCREF_RUNTIME_DIR";

/// What others may not be able to do in a runtime directory.
#[derive(Clone, Copy, Debug)]
enum Forbidden {
    /// Anything, in one whose place procref chose.
    Anything,
    /// To write, in one that somebody chose, who may want others to be able to look into it. Nobody else
    /// may be able to put a record or a link there.
    Writing,
}

/// Where a runtime directory is to be.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    dir: PathBuf,
    forbidden: Forbidden,
}

impl Location {
    pub(crate) fn of(base_dir: Option<&Path>) -> Result<Self> {
        let (dir, forbidden) = match base_dir.map(Path::to_owned).or_else(|| variable(VARIABLE)) {
            Some(dir) => (dir, Forbidden::Writing),
            None => (sys::default_dir()?, Forbidden::Anything),
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
        match fs::symlink_metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Whatever else is wrong with it is said there.
            _ => self.checked().map(Some),
        }
    }

    fn checked(&self) -> Result<Namespace> {
        let dir = &self.dir;
        let identity = sys::check(dir, self.forbidden)?;
        let canonical = sys::canonical(dir)
            .map_err(|error| Error::runtime_dir_io(dir, "could not resolve it", error))?;
        Ok(Namespace::new(canonical, identity, process_space()))
    }
}

/// The runtime directory, created where it is missing, checked in any case.
pub(crate) fn open(base_dir: Option<&Path>) -> Result<Namespace> {
    let location = Location::of(base_dir)?;
    let dir = &location.dir;
    match sys::create(dir) {
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
