//! The work that is the same at every start of an instance.

use serde::{Deserialize, Serialize};

use super::dependency::Dependency;

/// The work before the program, in JSON on the command line.
///
/// It is not read from the configuration again, because the configuration may have changed since the client read it.
#[derive(Deserialize, Serialize)]
pub struct PrestartTask {
    pub service: String,
    pub data: Option<String>,
    pub depends_on: Vec<String>,
    pub dependencies: Vec<Dependency>,
    /// The user that `init` and the program run as if this process is root's.
    pub user: Option<String>,
    /// The variables that the service's own configuration sets.
    pub own: Vec<String>,
    /// Those of [`own`](Self::own) whose values are still templates.
    pub templates: Vec<String>,
}
