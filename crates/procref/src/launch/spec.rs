//! The description of one launch.

use std::time::Duration;

use crate::command::StopPolicy;
use crate::kernel::Instance;
use crate::process::Identity;

/// The description of one launch, passed unchanged from the engine to the process that publishes the instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaunchSpec {
    /// The instance without identity and port, which are known only after the program's process exists.
    pub(crate) instance: Instance,
    pub(crate) generation: u16,
    pub(crate) stop: StopPolicy,
    /// Time to wait until the processes of an older instance have exited.
    pub(crate) patience: Duration,
}

impl LaunchSpec {
    /// The instance that is published as not ready once the program's process exists.
    pub(crate) fn launched(&self, identity: Identity, port: u16) -> Instance {
        Instance {
            identity,
            port,
            ..self.instance
        }
    }
}
