//! Separate runtime directories for projects, so that two checkouts of a project do not share services.

use std::path::{Path, PathBuf};

use procref::{Collected, Services};

use crate::error::Result;

/// A runtime directory and its project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `None` for the default directory.
    pub dir: Option<PathBuf>,
    /// The directory of the project's configuration. `None` for services that are shared or in no configuration.
    pub project: Option<PathBuf>,
}

impl From<&Services> for Namespace {
    fn from(services: &Services) -> Self {
        Self {
            dir: Some(services.dir().to_owned()),
            project: services.project_dir().map(Path::to_owned),
        }
    }
}

/// Returns the services of this directory, or of the default one. A missing directory is not an error. An
/// existing directory is checked.
pub fn services(dir: Option<&Path>) -> procref::Result<Services> {
    match dir {
        Some(dir) => Services::in_dir(dir),
        None => Services::open(),
    }
}

/// Returns the absolute path of the common runtime directory.
pub fn common(named: Option<&Path>) -> Result<PathBuf> {
    Ok(services(named)?.dir().to_owned())
}

/// Returns the runtime directory of a project, and creates it if it is missing.
pub fn open(named: Option<&Path>, project: &Path) -> Result<PathBuf> {
    let common = services(named)?;
    let services = common.project(project)?;
    services.create_dir()?;
    // The start does not depend on other projects, so an error there is left to `gc`.
    for vanished in common.vanished_projects().unwrap_or_default() {
        let _ = collect(&vanished);
    }
    Ok(services.dir().to_owned())
}

/// Returns the namespace of a project, even if its runtime directory does not exist.
pub fn of_project(named: Option<&Path>, project: &Path) -> Result<Namespace> {
    Ok(Namespace::from(&services(named)?.project(project)?))
}

/// Returns the namespaces of all projects, ordered by the projects' paths.
pub fn all(named: Option<&Path>) -> Result<Vec<Namespace>> {
    let projects = services(named)?.projects()?;
    Ok(projects.iter().map(Namespace::from).collect())
}

/// Returns the services of projects that do not exist any more.
pub fn vanished(named: Option<&Path>) -> Result<Vec<Services>> {
    Ok(services(named)?.vanished_projects()?)
}

/// Removes what crashes have left in the runtime directory of a project that does not exist any more, and the directory
/// if no service runs there.
pub fn collect(vanished: &Services) -> Result<Collected> {
    let collected = vanished.gc_blocking()?;
    vanished.remove_vanished()?;
    Ok(collected)
}
