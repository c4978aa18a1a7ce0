//! The runtime directories of projects, so that two checkouts of a project do not share services.
//!
//! The directory `projects` in a common runtime directory has one directory for each project. Its name consists of the
//! name of the project's directory and a digest of its path. The link `project` in it points to the project.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

use super::{Location, Origin, sys};
use crate::error::{Error, Result};

/// The directory that contains the projects' directories.
pub(crate) const PROJECTS: &str = "projects";

/// The name of the link to the project.
const LINK: &str = "project";

/// The length of a project's name in the name of its runtime directory. The path of a socket has at most 107 bytes, and
/// also contains the runtime directory and the name of the socket.
const SLUG: usize = 16;

/// A project, and the runtime directory that contains the project's own one.
#[derive(Clone, Debug)]
pub(super) struct Project {
    common: Box<Location>,
    /// The project's directory, without links.
    path: PathBuf,
}

impl Location {
    /// Returns the runtime directory of a project in this runtime directory.
    pub(crate) fn of_project(self, project: &Path) -> Result<Self> {
        let failed = |error| Error::runtime_dir_io(project, "could not find the project", error);
        let path = sys::canonical(project).map_err(failed)?;
        if !path.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        Ok(self.in_projects(path))
    }

    fn in_projects(self, path: PathBuf) -> Self {
        Self {
            dir: self.dir.join(PROJECTS).join(dir_name(&path)),
            // As for the default directory, other users must have no permissions.
            origin: Origin::Default,
            project: Some(Project {
                common: Box::new(self),
                path,
            }),
        }
    }

    /// Returns the directory of the project.
    pub(crate) fn project(&self) -> Option<&Path> {
        self.project.as_ref().map(|project| project.path.as_path())
    }

    /// Returns the runtime directories of all projects, ordered by the projects' paths.
    pub(crate) fn projects(&self) -> Result<Vec<Self>> {
        let projects = self.dir.join(PROJECTS);
        let failed = |error| Error::runtime_dir_io(&projects, "could not list it", error);
        let entries = match fs::read_dir(&projects) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        sys::check(&projects, Origin::Default)?;
        let mut found = Vec::new();
        for entry in entries {
            let dir = entry.map_err(failed)?.path();
            // A directory without the link is not a project's.
            let Ok(path) = sys::read_link(&dir.join(LINK)) else {
                continue;
            };
            // The directory has the name of the project unless the link was changed.
            found.push(Self {
                dir,
                ..self.clone().in_projects(path)
            });
        }
        found.sort_by(|one, other| one.project().cmp(&other.project()));
        Ok(found)
    }

    /// Creates the directories above the project's own one, and checks them.
    pub(super) fn create_above_project(&self) -> Result<()> {
        let Some(project) = &self.project else {
            return Ok(());
        };
        project.common.create()?;
        project.common.check()?;
        let projects = project.common.dir.join(PROJECTS);
        created(sys::create(&projects, Origin::Default))?;
        sys::check(&projects, Origin::Default).map(drop)
    }

    /// Links the directory to its project.
    pub(super) fn link_project(&self) -> Result<()> {
        let Some(project) = &self.project else {
            return Ok(());
        };
        sys::check(&self.dir, Origin::Default)?;
        let link = self.dir.join(LINK);
        let failed = |error| Error::runtime_dir_io(&link, "could not create the link", error);
        match sys::link(&project.path, &link) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let other = sys::read_link(&link).map_err(failed)?;
        if other == project.path {
            return Ok(());
        }
        let reason = format!(
            "it belongs to {} and not to {} (remove the directory if that is wrong)",
            other.display(),
            project.path.display()
        );
        Err(Error::runtime_dir(&self.dir, reason))
    }

    /// Removes the runtime directory of a project that does not exist any more. Returns `false` if the project exists,
    /// or if a process has just started a service.
    ///
    /// The caller has found no service there. Only logs and other files that no process uses are left.
    pub(crate) fn remove_vanished(&self) -> Result<bool> {
        if !self.has_vanished() {
            return Ok(false);
        }
        let dir = &self.dir;
        let failed = |error| Error::runtime_dir_io(dir, "could not remove it", error);
        sys::check(dir, Origin::Default)?;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let is_kept = name == LINK || sys::KEPT.iter().any(|kept| name == *kept);
            if !is_kept && !entry.file_type().map_err(failed)?.is_dir() {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        if !sys::has_only(dir, LINK).map_err(failed)? {
            return Ok(false);
        }
        // The link is the last one, because a directory without it would never be found again.
        fs::remove_file(dir.join(LINK)).map_err(failed)?;
        match sys::remove(dir) {
            Ok(()) => Ok(true),
            // The project exists again, and a process has just started a service there.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                self.link_project().map(|()| false)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns `true` if this is the runtime directory of a project that does not exist any more.
    pub(crate) fn has_vanished(&self) -> bool {
        self.project().is_some_and(|project| {
            matches!(fs::metadata(project), Err(error) if error.kind() == io::ErrorKind::NotFound)
        })
    }
}

/// Treats a directory that exists as created. The check that follows reports other files of the same name.
pub(super) fn created(created: Result<()>) -> Result<()> {
    match created {
        Err(Error::RuntimeDir {
            source: Some(source),
            ..
        }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

fn dir_name(project: &Path) -> String {
    let name = project.file_name().unwrap_or_default().to_string_lossy();
    // The files of services get their names in the same way.
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
