//! From a name on the command line to the services that are meant.

use crate::args::Globals;
use crate::config;
use crate::error::Result;
use crate::spec::{ServiceFlags, ServiceSpec};

/// What `run`, `hold` and `pin` acquire.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the service needs, in the order in which they are acquired.
    pub(crate) dependencies: Vec<ServiceSpec>,
    pub(crate) service: ServiceSpec,
}

impl Plan {
    /// The service of this name, as the configuration describes it and the flags change it.
    pub(crate) fn new(globals: &Globals, name: &str, flags: &ServiceFlags) -> Result<Self> {
        let mut plan = match config::find(globals, name)? {
            Some(plan) => plan,
            None => Self {
                dependencies: Vec::new(),
                service: ServiceSpec {
                    runtime_dir: globals.runtime_dir.clone(),
                    ..ServiceSpec::named(name)
                },
            },
        };
        plan.service = plan.service.overridden_by(flags);
        Ok(plan)
    }
}
