//! Situations that many tests begin with.

use super::{Key, Scene};
use crate::actor::{Actor, Pending};
use crate::observe::Identity;
use crate::protocol::{Event, Gate, ServiceSpec, Via};

impl Scene {
    /// Kills the only instance, waits until it has exited, and returns it.
    ///
    /// # Panics
    ///
    /// Panics if there is no live instance or more than one, or if the instance does not exit.
    #[track_caller]
    pub fn kill_only_instance(&self) -> Identity {
        let service = self.only_instance();
        service.kill();
        service.wait_exit();
        service
    }

    /// Kills the only supervisor of a service, waits until it has exited, and returns it.
    ///
    /// # Panics
    ///
    /// Panics if there is no supervisor or more than one, or if the supervisor does not exit.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn kill_only_supervisor(&self, spec: &ServiceSpec) -> Identity {
        let supervisor = self.only_supervisor(spec);
        supervisor.kill();
        supervisor.wait_exit();
        supervisor
    }

    /// Begins an acquire in a new client, and waits until the client is at `gate` in a callback.
    /// Returns the client, the key of its service, and the pending acquire.
    ///
    /// # Panics
    ///
    /// Panics if `gate` is not in a callback, or if the client does not reach the gate.
    #[track_caller]
    pub fn client_at_gate(
        &self,
        spec: &ServiceSpec,
        gate: Gate,
        via: Via,
    ) -> (Actor, Key, Pending) {
        let event = match gate {
            Gate::Before(callback) => Event::Running(callback),
            Gate::After(callback) => Event::Returning(callback),
            Gate::Tick => panic!("a tick is not in a callback"),
        };
        let client = self.actor();
        let key = client.build(&spec.clone().with_gates([gate]));
        let pending = client.begin_acquire(via);
        client.event(&event);
        (client, key, pending)
    }
}
