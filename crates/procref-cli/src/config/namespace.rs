//! Runtime directories of their own for projects, so that two checkouts of one project do not meet.
//!
//! The directory `projects` of the common runtime directory has one for each project. It is called after the
//! project's directory and a digest of its path, and a link `project` in it says which one that is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use procref::Services;
use siphasher::sip::SipHasher13;

use crate::error::{Error, Result};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The directory of the projects' directories.
const PROJECTS: &str = "projects";

/// The link to the project.
const LINK: &str = "project";

/// How much of a project's name is in its directory's. Paths of sockets are at most 107 bytes long, and
/// the runtime directory and a socket's name have to go in there, too.
const SLUG: usize = 16;

/// A runtime directory and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// `None`: the default one.
    pub(crate) dir: Option<PathBuf>,
    /// The directory of the configuration whose services are there; `None` for those that are in no
    /// configuration, or shared.
    pub(crate) project: Option<PathBuf>,
}

/// The services of the common runtime directory, whether that exists or not; checked if it does.
fn services(named: Option<&Path>) -> Result<Services> {
    Ok(match named {
        Some(dir) => Services::in_dir(dir)?,
        None => Services::open()?,
    })
}

/// The path of the common runtime directory, which is absolute.
pub(crate) fn common(named: Option<&Path>) -> Result<PathBuf> {
    Ok(services(named)?.dir().to_owned())
}

/// The runtime directory of a project, which is created where it is missing. `project` is canonical.
pub(crate) fn open(named: Option<&Path>, project: &Path) -> Result<PathBuf> {
    let common = services(named)?;
    // The library knows what it may create, and checks it. Who creates the common directory can exchange
    // everything in it.
    common.create_dir()?;
    let projects = common.dir().join(PROJECTS);
    let dir = projects.join(dir_name(project));
    for dir in [&projects, &dir] {
        sys::create_private(dir)
            .map_err(|error| Error::io(format!("create the directory {}", dir.display()), error))?;
        check_private(dir)?;
    }
    link(&dir, project)?;
    Ok(dir)
}

/// Where the runtime directory of a project is, or would be.
pub(crate) fn place(named: Option<&Path>, project: &Path) -> Result<PathBuf> {
    Ok(common(named)?.join(PROJECTS).join(dir_name(project)))
}

/// Those of all projects that have one, ordered by path.
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
        // What has no such link was not made here.
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

/// Removes the runtime directory of a project that is not there any more, if nothing is in it.
pub(crate) fn forget(namespace: &Namespace) -> Result<bool> {
    let (Some(dir), Some(project)) = (&namespace.dir, &namespace.project) else {
        return Ok(false);
    };
    let is_gone =
        matches!(fs::metadata(project), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let is_empty = || sys::has_only(dir, LINK);
    let failed = |error| Error::io(format!("remove the directory {}", dir.display()), error);
    if !is_gone || !is_empty().map_err(failed)? {
        return Ok(false);
    }
    fs::remove_file(dir.join(LINK)).map_err(failed)?;
    match sys::remove(dir) {
        Ok(()) => Ok(true),
        // Somebody has just started something there.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            link(dir, project).map(|()| false)
        }
        Err(error) => Err(failed(error)),
    }
}

fn dir_name(project: &Path) -> String {
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    let slug: String = name
        .chars()
        .take(SLUG)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
            _ => '_',
        })
        .collect();
    // Not the hasher of the standard library, which may be another one in another build.
    let digest = SipHasher13::new().hash(&sys::bytes(project));
    format!("{slug}-{digest:016x}")
}

/// The library sees to it that a directory is ours, no link, and not writable by others. This one is to be
/// closed to them altogether.
fn check_private(dir: &Path) -> Result<()> {
    Services::in_dir(dir)?;
    sys::check_closed(dir)
}

/// Says in the directory which project it is of.
fn link(dir: &Path, project: &Path) -> Result<()> {
    let link = dir.join(LINK);
    let failed = |error| Error::io(format!("make the link {}", link.display()), error);
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
        "the runtime directory {} is that of {}, and not of {}; remove it if that is wrong",
        dir.display(),
        other.display(),
        project.display()
    )))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_project_and_leaves_room_for_sockets() {
        let name = dir_name(Path::new("/home/me/My Project of Names"));
        assert_eq!(name, "My_Project_of_Na-25c6d62158a360cf");
        assert_ne!(name, dir_name(Path::new("/home/you/My Project of Names")));
        let socket = format!("/run/user/4294967294/procref/{PROJECTS}/{name}/.s.PGSQL.65535");
        assert!(socket.len() < 108, "{} bytes", socket.len());
        assert!(dir_name(Path::new("/")).starts_with('-'));
    }
}
