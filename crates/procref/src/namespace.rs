//! Namespaces: a runtime directory, and the processes that use it.
//!
//! Opening a directory also checks that it belongs to this user and that no other user can change it.

use std::env;
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::name::Digest;
use crate::process::{self, View};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod project;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

#[cfg(target_os = "linux")]
pub(crate) use project::PROJECTS;
pub(crate) use sys::RecordWatch;

/// The version of the kernel object's layout. It is part of every namespace digest, because processes of two layouts
/// must not use one object.
const LAYOUT_VERSION: u8 = 3;

/// The variable that names the runtime directory if the builder's `base_dir` does not.
const VARIABLE: &str = "PROCREF_RUNTIME_DIR";

/// The source of a runtime directory's path. It determines which directories may be created, and which
/// permissions other users may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The library's caller chose it. Missing parents are created.
    Named,
    /// An environment variable names it. The variable may be another user's, because `sudo -E` and `su`
    /// without `-` keep it.
    Variable,
    /// procref chose it. Only the directory itself is created, and other users must have no permissions.
    Default,
}

/// A runtime directory in the view of one group of processes.
///
/// Two processes meet if they have the same directory under the same path, and equal views.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    dir: Arc<Path>,
    identity: (u64, u64),
    view: View,
    digest: Digest,
    /// `true` if this process has created the directory.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "other systems have one kernel")
    )]
    is_new: bool,
}

impl Namespace {
    /// `identity` distinguishes the directory from others that have, or had, the same path. Processes with different
    /// directories never meet.
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
            is_new: false,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the view of the process that opened the directory.
    pub(crate) fn view(&self) -> View {
        self.view
    }

    /// Returns device and inode of the directory when it was opened.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn shared_dir(&self) -> Arc<Path> {
        Arc::clone(&self.dir)
    }

    /// Returns `true` if this process has created the directory, so that no process has used it before.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }
}

/// The path of a runtime directory, which may not exist.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    dir: PathBuf,
    origin: Origin,
    /// The project that the directory belongs to.
    project: Option<project::Project>,
}

impl Location {
    /// Returns the runtime directory's absolute path. A relative path would mean another directory after `chdir`, and
    /// in a service with its own working directory.
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
        // The path loses a separator at its end, because `link/` would follow the link.
        let dir = absolute.components().collect();
        Ok(Self {
            dir,
            origin,
            project: None,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the runtime directory, checked, or `None` if it does not exist.
    pub(crate) fn find(&self) -> Result<Option<Namespace>> {
        // A process that cannot share services gets the error at its first use, even if there are no services
        // yet.
        let view = process::view()?;
        match fs::symlink_metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // The check that follows reports all other errors.
            _ => self.checked(view).map(Some),
        }
    }

    /// Checks the directory if it exists. In contrast to [`find`](Self::find), does not check this process.
    pub(crate) fn check_existing(&self) -> Result<()> {
        match fs::symlink_metadata(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => self.check().map(drop),
        }
    }

    /// Checks the directory, and returns its identity.
    pub(crate) fn check(&self) -> Result<(u64, u64)> {
        sys::check(&self.dir, self.origin)
    }

    /// Creates the directory if it is missing.
    pub(crate) fn create(&self) -> Result<()> {
        self.create_above_project()?;
        // Another process may have created the directory, or the path may not be a directory. The check that follows
        // distinguishes the two.
        project::created(sys::create(&self.dir, self.origin))?;
        self.link_project()
    }

    fn checked(&self, view: View) -> Result<Namespace> {
        let dir = &self.dir;
        let identity = self.check()?;
        let canonical = sys::canonical(dir)
            .map_err(|error| Error::runtime_dir_io(dir, "could not resolve it", error))?;
        Ok(Namespace::new(canonical, identity, view))
    }
}

/// Returns the runtime directory, or a project's own one in it, created if it was missing, and checked.
pub(crate) fn open(base_dir: Option<&Path>, project: Option<&Path>) -> Result<Namespace> {
    let common = Location::of(base_dir)?;
    let location = match project {
        Some(project) => common.of_project(project)?,
        None => common,
    };
    // A process that cannot share services creates no directory.
    let view = process::view()?;
    // Another process may create the directory between the two calls. Then both treat it as new.
    let is_new = !location.dir.exists();
    location.create()?;
    let namespace = location.checked(view)?;
    Ok(Namespace {
        is_new,
        ..namespace
    })
}

/// Checks that the path still leads to the namespace's directory, and that the view of this process has not
/// changed.
///
/// Another directory at this path, or another view, is another namespace. Its records belong to other
/// processes.
pub(crate) fn check_unchanged(namespace: &Namespace) -> Result<()> {
    process::check_view(namespace.view())?;
    let dir = namespace.dir();
    let identity = sys::identity(dir).map_err(|error| {
        Error::runtime_dir_io(
            dir,
            "could not read it again after the service was built",
            error,
        )
    })?;
    if identity == namespace.identity() {
        return Ok(());
    }
    let reason = "another directory has taken its place since the service was built (build the service \
                  again)";
    Err(Error::runtime_dir(dir, reason))
}

/// Returns the runtime directory of processes that do not choose one. It may not exist.
#[cfg(unix)]
pub(crate) fn default_dir() -> Result<PathBuf> {
    sys::default_dir()
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(Into::into)
}
