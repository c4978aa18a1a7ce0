//! The description of a launch, and the policy for stopping a service.

use core::time::Duration;

use crate::state::{Identity, Instance};

/// The description of one launch, passed unchanged from the engine to the process that publishes the instance.
#[derive(Clone, Copy, Debug)]
pub struct LaunchSpec {
    /// The instance without identity and port, which are known only after the program's process exists.
    pub instance: Instance,
    pub generation: u16,
    pub stop: StopSpec,
    /// Time to wait until the processes of an older instance have exited.
    pub patience: Duration,
}

impl LaunchSpec {
    /// Returns the instance that is published as not ready after the program's process exists.
    pub fn launched(&self, identity: Identity, port: u16) -> Instance {
        Instance {
            identity,
            port,
            ..self.instance
        }
    }
}

/// Time for a killed process to exit. It takes longer only if it is stuck in the kernel.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to stop a service: a signal, and SIGKILL if the service is still alive after the grace.
#[derive(Clone, Copy, Debug)]
pub struct StopSpec {
    /// The number of the signal.
    pub signal: i32,
    pub grace: Duration,
}

impl StopSpec {
    /// Returns the longest time that a stop takes. The service's main process gets one grace period, and the
    /// leftover processes get another one.
    pub fn limit(&self) -> Duration {
        self.grace.saturating_add(KILL_TIMEOUT).saturating_mul(2)
    }
}
