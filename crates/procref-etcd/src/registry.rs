//! The keys that the hosts of a cluster share, and the only steps that change them.
//!
//! | key | lease | value |
//! |---|---|---|
//! | `ref/HOST` | the host's | the host's reference |
//! | `inst` | that of the host where the service runs | the instance: host, session, state, address |
//! | `started` | none | present from a start until an orderly stop |
//!
//! Every step is one transaction. A step that does not apply changes nothing. The *fencing token* of an instance is
//! etcd's revision when its `inst` was created, so that it grows even if all keys are removed in between.

use std::future::Future;

use serde::{Deserialize, Serialize};

pub mod etcd;
#[cfg(test)]
pub(crate) mod sim;

/// The identity of a lease. The link chooses it, so that it can recognize a lease after a lost answer.
pub type Lease = i64;

/// The state of the service. Only a *ready* instance can be joined, and only an absent one can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A host is starting the service.
    Starting,
    /// Clients may use the service.
    Ready,
    /// A host is stopping the service.
    Stopping,
}

/// The service, as its host describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The host where the service runs.
    pub host: String,
    /// The link that started the service.
    pub session: Lease,
    /// The state.
    pub state: State,
    /// `HOST:PORT` for clients on other hosts. Empty before the service is ready.
    pub address: String,
}

/// An [`Instance`] with its fencing token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The instance.
    pub instance: Instance,
    /// The fencing token.
    pub fence: i64,
}

/// The keys of a service at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// The lease of this host's reference.
    pub own: Option<Lease>,
    /// Whether another host has a reference.
    pub others: bool,
    /// The service.
    pub found: Option<Found>,
    /// Whether a service was started and not stopped in order.
    pub started: bool,
}

/// A step on the keys. `replaces` is the lease of the reference that a dead link of the same host has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Reads the keys. The read is linearizable.
    Read,
    /// Takes a reference, if this very instance is there.
    Join {
        /// See [`Request`].
        replaces: Option<Lease>,
        /// The lease of the new reference.
        lease: Lease,
        /// The ready instance.
        found: Found,
    },
    /// Takes a reference and publishes an instance, if there is none.
    Enter {
        /// See [`Request`].
        replaces: Option<Lease>,
        /// The lease of both.
        lease: Lease,
        /// The starting instance.
        instance: Instance,
    },
    /// Takes a reference, if no instance is there, so that the host that may run the service starts it.
    Ask {
        /// See [`Request`].
        replaces: Option<Lease>,
        /// The lease of the new reference.
        lease: Lease,
    },
    /// Moves the reference, and the instance if it is this host's, to a new lease.
    Rebind {
        /// The lease of the reference before.
        old: Lease,
        /// The new lease.
        lease: Lease,
        /// This host's instance.
        found: Option<Found>,
    },
    /// Replaces the description of this host's instance.
    Publish {
        /// The lease of the reference.
        lease: Lease,
        /// The instance before.
        found: Found,
        /// The new description.
        instance: Instance,
    },
    /// Removes the reference, and the instance if it is this host's.
    Leave {
        /// The lease of the reference.
        lease: Lease,
        /// This host's instance. Its service is not running.
        found: Option<Found>,
    },
    /// Removes an instance that a dead link of this host has left.
    Clear {
        /// The instance. Its service is not running.
        found: Found,
    },
}

impl Request {
    /// Returns the lease that the request grants.
    #[must_use]
    pub fn new_lease(&self) -> Option<Lease> {
        match self {
            Self::Join { lease, .. }
            | Self::Enter { lease, .. }
            | Self::Ask { lease, .. }
            | Self::Rebind { lease, .. } => Some(*lease),
            Self::Read | Self::Publish { .. } | Self::Leave { .. } | Self::Clear { .. } => None,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The step was applied, at this revision.
    Done(i64),
    /// The step did not apply, because the keys differ from what the request expects.
    Refused,
    /// The keys.
    View(View),
}

/// Performs requests for one host and one service.
pub trait Registry {
    /// Why no answer came. The step may have been applied, or may still be applied later.
    type Unknown;

    /// Performs a request.
    ///
    /// # Errors
    /// If no answer came.
    fn perform(&mut self, request: &Request) -> impl Future<Output = Result<Reply, Self::Unknown>>;

    /// Revokes a lease that no key needs. Does not wait, and may fail: the lease ends by itself.
    fn revoke(&mut self, lease: Lease);

    /// Waits until the keys may have changed. May miss a change, and may return without one.
    fn changed(&mut self) -> impl Future<Output = ()>;
}
