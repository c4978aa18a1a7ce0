//! Separate runtime directories for projects, so that two checkouts of a project do not share services.
//!
//! The directory `projects` in the common runtime directory has one directory for each project. Its name
//! consists of the name of the project's directory and a digest of its path. The link `project` in it points
//! to the project.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use procref::{Collected, Services};
use siphasher::sip::SipHasher13;

use crate::error::{Error, Result};
use crate::runtime_dir::services;
use crate::signals::Unsuspended;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The directory that contains the projects' directories.
const PROJECTS: &str = "projects";

/// The name of the link to the project.
const LINK: &str = "project";

/// The length of a project's name in the name of its runtime directory. The path of a socket has at most 107
/// bytes, and also contains the runtime directory and the name of the socket.
const SLUG: usize = 16;

/// A runtime directory and its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// `None` for the default directory.
    pub(crate) dir: Option<PathBuf>,
    /// The directory of the project's configuration. `None` for services that are shared or in no configuration.
    pub(crate) project: Option<PathBuf>,
}

impl Namespace {
    fn has_vanished(&self) -> bool {
        let missing = |project: &PathBuf| matches!(fs::metadata(project), Err(error) if error.kind() == io::ErrorKind::NotFound);
        self.project.as_ref().is_some_and(missing)
    }
}

/// Returns the absolute path of the common runtime directory.
pub(crate) fn common(named: Option<&Path>) -> Result<PathBuf> {
    Ok(services(named)?.dir().to_owned())
}

/// Returns the runtime directory of a project, and creates it if it is missing. `project` is canonical.
pub(crate) fn open(named: Option<&Path>, project: &Path) -> Result<PathBuf> {
    let common = services(named)?;
    // The library creates and checks the common directory. Its owner can replace everything in it.
    common.create_dir()?;
    let projects = common.dir().join(PROJECTS);
    let dir = projects.join(dir_name(project));
    for dir in [&projects, &dir] {
        sys::create_private(dir)
            .map_err(|error| Error::io(format!("create the directory {}", dir.display()), error))?;
        check_private(dir)?;
    }
    link(&dir, project)?;
    // The start does not depend on other projects, so an error there is left to `gc`.
    for vanished in vanished(named).unwrap_or_default() {
        let _ = collect(&vanished);
    }
    Ok(dir)
}

/// Returns the path of a project's runtime directory, even if the directory does not exist.
pub(crate) fn path(named: Option<&Path>, project: &Path) -> Result<PathBuf> {
    Ok(common(named)?.join(PROJECTS).join(dir_name(project)))
}

/// Returns the runtime directories of all projects, ordered by the projects' paths.
pub(crate) fn all(named: Option<&Path>) -> Result<Vec<Namespace>> {
    let projects = common(named)?.join(PROJECTS);
    let failed = |error| Error::io(format!("read the directory {}", projects.display()), error);
    let entries = match fs::read_dir(&projects) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    check_private(&projects)?;
    let mut found = Vec::new();
    for entry in entries {
        let dir = entry.map_err(failed)?.path();
        // A directory without the link was not created by this module.
        if let Ok(project) = sys::read_link(&dir.join(LINK)) {
            found.push(Namespace {
                dir: Some(dir),
                project: Some(project),
            });
        }
    }
    found.sort_by(|one, other| one.project.cmp(&other.project));
    Ok(found)
}

/// Returns the runtime directories of projects that do not exist any more.
pub(crate) fn vanished(named: Option<&Path>) -> Result<Vec<Namespace>> {
    let mut found = all(named)?;
    found.retain(Namespace::has_vanished);
    Ok(found)
}

/// Removes what crashes have left in the runtime directory of a project that does not exist any more, and the directory
/// if no service runs there.
pub(crate) fn collect(namespace: &Namespace) -> Result<Option<Collected>> {
    let Some(dir) = namespace
        .dir
        .as_deref()
        .filter(|_| namespace.has_vanished())
    else {
        return Ok(None);
    };
    check_private(dir)?;
    let services = services(Some(dir))?;
    let _unsuspended = Unsuspended::begin();
    let collected = services.gc_blocking()?;
    if !services.list()?.is_empty() {
        return Ok(Some(collected));
    }
    // Only logs and other files that no process uses are left. The link is the last one, because a directory without it
    // would never be found again.
    let failed = |error| Error::io(format!("remove the directory {}", dir.display()), error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_kept = |kept: &str| entry.file_name() == kept;
        if is_kept(LINK) || sys::KEPT.iter().any(|kept| is_kept(kept)) {
            continue;
        }
        if !entry.file_type().map_err(failed)?.is_dir() {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    if !sys::has_only(dir, LINK).map_err(failed)? {
        return Ok(Some(collected));
    }
    fs::remove_file(dir.join(LINK)).map_err(failed)?;
    match sys::remove(dir) {
        Ok(()) => {}
        // The project exists again, and a process has just started a service there.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            link(dir, namespace.project.as_deref().unwrap_or(dir))?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(Some(collected))
}

fn dir_name(project: &Path) -> String {
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    // The library makes file names from service names in the same way.
    let slug: String = name
        .chars()
        .take(SLUG)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
            _ => '_',
        })
        .collect();
    // The standard library's hasher may change between two builds.
    let digest = SipHasher13::new().hash(&sys::bytes(project));
    format!("{slug}-{digest:016x}")
}

/// Checks that a directory is closed to other users. The library checks that it belongs to this user, is not a link,
/// and is not writable by others.
fn check_private(dir: &Path) -> Result<()> {
    Services::in_dir(dir)?;
    sys::check_closed(dir)
}

/// Links the directory to its project.
fn link(dir: &Path, project: &Path) -> Result<()> {
    let link = dir.join(LINK);
    let failed = |error| Error::io(format!("create the link {}", link.display()), error);
    match sys::link(project, &link) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let other = sys::read_link(&link).map_err(failed)?;
    if other == project {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "the runtime directory {} belongs to {} and not to {} (remove the directory if that is wrong)",
        dir.display(),
        other.display(),
        project.display()
    )))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn dir_name_has_the_project_and_leaves_room_for_sockets() {
        let name = dir_name(Path::new("/home/me/My Project of Names"));
        assert_eq!(name, "My_Project_of_Na-25c6d62158a360cf");
        assert_ne!(name, dir_name(Path::new("/home/you/My Project of Names")));
        let socket = format!("/run/user/4294967294/procref/{PROJECTS}/{name}/.s.PGSQL.65535");
        assert!(socket.len() < 108, "{} bytes", socket.len());
        assert!(dir_name(Path::new("/")).starts_with('-'));
    }
}
