//! Separate runtime directories for projects, so that two checkouts of a project do not share services.

use std::path::{Path, PathBuf};

use procref::{Collected, Services};

use crate::error::Result;
use crate::runtime_dir::services;
use crate::signals::Unsuspended;

/// A runtime directory and its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// `None` for the default directory.
    pub(crate) dir: Option<PathBuf>,
    /// The directory of the project's configuration. `None` for services that are shared or in no configuration.
    pub(crate) project: Option<PathBuf>,
}

impl From<&Services> for Namespace {
    fn from(services: &Services) -> Self {
        Self {
            dir: Some(services.dir().to_owned()),
            project: services.project_dir().map(Path::to_owned),
        }
    }
}

/// Returns the absolute path of the common runtime directory.
pub(crate) fn common(named: Option<&Path>) -> Result<PathBuf> {
    Ok(services(named)?.dir().to_owned())
}

/// Returns the runtime directory of a project, and creates it if it is missing.
pub(crate) fn open(named: Option<&Path>, project: &Path) -> Result<PathBuf> {
    let services = services(named)?.project(project)?;
    services.create_dir()?;
    // The start does not depend on other projects, so an error there is left to `gc`.
    for vanished in vanished(named).unwrap_or_default() {
        let _ = collect(&vanished);
    }
    Ok(services.dir().to_owned())
}

/// Returns the namespace of a project, even if its runtime directory does not exist.
pub(crate) fn of_project(named: Option<&Path>, project: &Path) -> Result<Namespace> {
    Ok(Namespace::from(&services(named)?.project(project)?))
}

/// Returns the namespaces of all projects, ordered by the projects' paths.
pub(crate) fn all(named: Option<&Path>) -> Result<Vec<Namespace>> {
    let projects = services(named)?.projects()?;
    Ok(projects.iter().map(Namespace::from).collect())
}

/// Returns the services of projects that do not exist any more.
pub(crate) fn vanished(named: Option<&Path>) -> Result<Vec<Services>> {
    let mut found = services(named)?.projects()?;
    found.retain(Services::has_vanished);
    Ok(found)
}

/// Removes what crashes have left in the runtime directory of a project that does not exist any more, and the directory
/// if no service runs there.
pub(crate) fn collect(vanished: &Services) -> Result<Collected> {
    let _unsuspended = Unsuspended::begin();
    let collected = vanished.gc_blocking()?;
    vanished.remove_vanished()?;
    Ok(collected)
}
