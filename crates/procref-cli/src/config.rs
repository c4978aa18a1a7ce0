//! The configuration file.

use std::path::PathBuf;

use crate::args::Globals;
use crate::error::Result;
use crate::plan::Plan;

/// What the configuration says of the service of this name; `None` if there is no configuration or no
/// such service in it.
pub(crate) fn find(_globals: &Globals, _name: &str) -> Result<Option<Plan>> {
    Ok(None)
}

/// A runtime directory and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    /// `None`: the default one.
    pub(crate) dir: Option<PathBuf>,
    /// The directory of the configuration whose services are there; `None` for those that are in no
    /// configuration, or shared.
    pub(crate) project: Option<PathBuf>,
}

/// The namespaces that are looked at from here: the common one, and that of the configuration that is
/// found from here; with `all`, those of all projects.
pub(crate) fn namespaces(globals: &Globals, _all: bool) -> Result<Vec<Namespace>> {
    Ok(vec![Namespace {
        dir: globals.runtime_dir.clone(),
        project: None,
    }])
}
