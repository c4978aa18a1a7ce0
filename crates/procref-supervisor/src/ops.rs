//! The operations of the machine that a supervisor needs, in addition to the semaphore set.
//!
//! There are three traits, for the three roles of a supervisor. The life of a supervisor is generic over
//! them, so that the model of procref can run the same code on a simulated machine.
//!
//! | trait | role | on Linux |
//! |---|---|---|
//! | [`SupervisorOps`] | every supervisor | [`SupervisorSpec`](crate::prepared::SupervisorSpec) |
//! | [`LaunchHandshake`] | a supervisor that is about to launch a service | `forked::subreaper::PendingSubreaper` |
//! | [`SubreaperOps`] | the parent of a service's processes | `forked::subreaper::Subreaper` |

use core::time::Duration;

use crate::semset::signal_safe::SetCalls;
use crate::state::{Ended, Identity, Instance};

/// The operations of every supervisor.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait SupervisorOps {
    type Calls: SetCalls;

    /// Returns the limit of this supervisor's sleeps. The exit of a child ends the limit early.
    fn limit(&self) -> &<Self::Calls as SetCalls>::Limit;

    /// Sets the time after which the next sleep ends. `None` sets no time limit.
    fn set_limit(&self, left: Option<Duration>);

    /// Returns the monotonic time since some fixed moment.
    fn now(&self) -> Duration;

    /// Returns the longest time that [`stop_instance`](Self::stop_instance) takes.
    fn stop_limit(&self) -> Duration;

    /// Stops the instance and waits until it has exited. Returns `false` if it could not be stopped.
    async fn stop_instance(&self, instance: &Instance) -> bool;

    /// Removes the files of the service from the runtime directory.
    async fn remove_files(&self);

    /// Removes the note of failed starts from the runtime directory.
    async fn remove_failure_note(&self);

    /// Returns `true` if this supervisor is the parent of a service's processes.
    fn is_subreaper(&self) -> bool;

    /// Returns `true` if this supervisor is the parent of the service and the service has exited.
    fn has_exited(&self) -> bool;
}

/// The operations of a supervisor that is the parent of the service's processes.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait SubreaperOps: SupervisorOps {
    /// Returns the process of the service's program.
    fn child(&self) -> Identity;

    /// Returns the exit status of that process, or `None` if it is alive.
    fn exit_status(&self) -> Option<Ended>;

    /// Reports to the starter that the service has exited.
    fn report_exit(&self);

    /// Reports to the starter that all processes of the service have exited.
    fn report_tree_exited(&self);

    /// Closes the pipe to the starter, which reads no further reports.
    fn close_report(&self);

    /// Stops the leftover processes of a service that has exited.
    async fn stop_leftovers(&self);

    /// Stops the service and all of its processes.
    async fn stop_tree(&self);

    /// Called when this supervisor is not counted in TREE any more, so that another one may launch the next instance. In
    /// a keeper, both have the same process, and this one must not touch the children of the other one.
    fn leave_tree(&self) {}
}

/// The operations of a supervisor before the service that it launches exists.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait LaunchHandshake {
    type Subreaper: SubreaperOps;
    type Ops: SupervisorOps<Calls = <Self::Subreaper as SupervisorOps>::Calls>;

    /// Returns the port that was chosen for the service. 0 means that the service has none.
    fn port(&self) -> u16;

    /// Reports to the starter that processes of an older instance are still alive. Returns `false` if the starter
    /// does not read.
    fn report_blocked(&self) -> bool;

    /// Reports to the starter that this supervisor is registered in the set. Returns `false` if the starter does not
    /// read.
    fn report_registered(&self) -> bool;

    /// Reports to the starter that the instance is published and its process waits at the gate.
    fn report_launched(&self, instance: &Instance) -> bool;

    /// Waits until the starter confirms that it still holds its share of the lock. Returns `false` if the
    /// starter died.
    ///
    /// If a starter dies right after the fork, the kernel releases its lock. When this supervisor then takes
    /// its share, a new starter may hold the lock, and the supervisor of that starter would wait for TREE. So
    /// a supervisor does nothing before its starter's confirmation, and exits if there is none. Checking
    /// whether the starter is alive is not sufficient, because a dying process releases its locks before it
    /// is dead.
    async fn await_confirm(&self) -> bool;

    /// Forks the process of the service, which waits at its gate. If the fork fails, reports the failure to
    /// the starter and returns `None`.
    async fn fork(&self) -> Option<Self::Subreaper>;

    /// Closes all descriptors of the starter, because the service is not launched. This process may live much longer than
    /// the starter, and readers of the starter's pipes wait for their end.
    fn close(&self);

    /// Waits until the reference and the lock of a dying starter are released. System V does that before the pipes of the
    /// starter end, so by default this does not wait.
    fn await_release(&self) -> impl Future<Output = ()> {
        core::future::ready(())
    }

    /// Returns the operations of this supervisor for the time in which it has no children.
    fn ops(&self) -> &Self::Ops;
}
