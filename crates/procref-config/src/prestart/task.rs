//! The work that is the same at every start of an instance.

use serde::{Deserialize, Serialize};

use super::dependency::Dependency;

/// The work before the program, in JSON on the command line.
///
/// It is not read from the configuration again, because the configuration may have changed since the client read it.
#[derive(Deserialize, Serialize)]
pub(super) struct PrestartTask {
    pub(super) service: String,
    pub(super) data: Option<String>,
    pub(super) depends_on: Vec<String>,
    pub(super) dependencies: Vec<Dependency>,
    /// The user that `init` and the program run as if this process is root's.
    pub(super) user: Option<String>,
    /// The variables that the service's own configuration sets.
    pub(super) own: Vec<String>,
    /// Those of [`own`](Self::own) whose values are still templates.
    pub(super) templates: Vec<String>,
}
