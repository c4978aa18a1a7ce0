//! What the engine asks of a kernel: one counted object per service.
//!
//! Every backend meets this one contract, and the engine knows no other. A backend may be a
//! semaphore set whose adjustments the kernel undoes (Linux), handles and a job object that end
//! with their last holder (Windows), a counting server reached over ports that notice a death
//! (macOS), or memory (the model).
//!
//! The contract, beside what each method says:
//!
//! - **Every step is atomic.** All of it happens or none of it, also when the process dies in it.
//! - **References and locks end with the process** that holds them, however it ends, without a
//!   line of its code. What else a step writes stays.
//! - A reference and the lock belong to the *process*: any of its threads may give them back. A
//!   child made by `fork` has neither.
//! - **A step never waits** but [`Object::wait_unlocked`] and [`Object::wait_removed`], which may block the
//!   thread that polls them. The engine polls them on threads of its own.
//! - Once an object was removed, every step on it is [`Fault::Removed`], those that sleep included.
//!
//! The steps are `async` so that the model can switch to another process at each of them; on a real
//! kernel they are ready at once.

use std::future::Future;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::Identity;

#[cfg(test)]
mod conformance;
#[cfg(any(target_os = "linux", test))]
pub(crate) mod semset;
#[cfg(test)]
pub(crate) mod sim;
mod state;
#[cfg(target_os = "linux")]
mod sysv;
#[cfg(windows)]
mod windows;

#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) use sysv::fuzz;
#[cfg(target_os = "linux")]
pub(crate) use sysv::{SystemV as Native, signal_safe};
#[cfg(windows)]
pub(crate) use windows::{Windows as Native, signal_safe};

pub(crate) use state::{Ended, Inspection, Instance, MAX_LINGER_MS, Snapshot};

/// Why a step did not happen.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The object is gone, and with it every reference and lock on it.
    Removed,
    /// The kernel refused.
    Refused(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What a step comes to.
pub(crate) type Step<T> = Result<T, Fault>;

/// A kernel's way to the objects.
pub(crate) trait Kernel: Send + Sync + 'static {
    type Object: Object;

    /// Whether a process has to see to a service whose clients are all killed. Where the kernel itself ends
    /// the service, there are no supervisors, and nobody asks for one.
    const NEEDS_SUPERVISOR: bool = true;

    /// Sets up ahead what the first step would have to.
    fn prepare(&self) {}

    /// Opens the object of a service, after checking that it is ours. A new one is blank: nobody
    /// holds it, it is unlocked, and has no instance. `None`: there is none, and none is wanted.
    fn open(
        &self,
        key: &ServiceKey,
        missing: Missing,
    ) -> impl Future<Output = Result<Option<Self::Object>>> + Send;

    /// The digests of the names of all services of a namespace that have an object of ours which says
    /// so. One that nobody has claimed yet is not told.
    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>>;

    /// Returns `true` if the object of a service, in whichever namespace, names this process as its instance,
    /// and the process is no client. Always false where the children of a process tell nothing.
    fn is_instance(_: Identity) -> Result<bool> {
        Ok(false)
    }

    /// The object as the system's own tools name it.
    fn object_name(key: &ServiceKey) -> String;

    /// Asks what a service has started to end, where its own process has no way to be asked. False: neither
    /// have they.
    fn request_tree_stop(_: Identity) -> bool {
        false
    }
}

/// What to do about an object that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Ignore,
}

/// Whether a step asks for a living supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervised {
    Yes,
    No,
}

/// Whether a step that writes lets go of the lock with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Keep,
    Release,
}

/// The kernel object of one service.
///
/// "True" below means that the step happened; "false" that a condition did not hold and that
/// nothing happened.
pub(crate) trait Object: Send + Sync + 'static {
    fn snapshot(&self) -> impl Future<Output = Step<Snapshot>> + Send;

    /// Takes a reference, if somebody holds one and nobody the lock; and, where that is asked for, if
    /// a supervisor lives.
    fn join(&self, supervised: Supervised) -> impl Future<Output = Step<bool>> + Send;

    /// Sleeps until nobody holds the lock. Somebody may have taken it again by the time this
    /// returns: it tells when to try again, nothing more. All who sleep wake together.
    fn wait_unlocked(&self) -> impl Future<Output = Step<()>> + Send;

    /// As [`wait_unlocked`](Self::wait_unlocked), on this thread and at most so long; false if it takes
    /// longer. `None`: this kernel cannot.
    fn wait_unlocked_within(&self, _limit: Duration) -> Option<Step<bool>> {
        None
    }

    /// Takes the lock **and** a reference, if nobody holds the lock.
    fn try_enter(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Takes the lock, if nobody holds it. For who has a reference already.
    fn try_lock(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Writes whose object this is. Under the lock, once.
    fn claim(&self) -> impl Future<Output = Step<()>> + Send;

    /// Writes how long the transition takes at most, and whose object this is if it does not say so yet.
    /// Under the lock.
    fn announce(&self, limit: Duration) -> impl Future<Output = Step<()>> + Send;

    /// Writes that the instance is being stopped, and announces how long that takes at most, in one step.
    /// Under the lock.
    fn publish_stopping(
        &self,
        instance: &Instance,
        generation: u16,
        limit: Duration,
    ) -> impl Future<Output = Step<()>> + Send;

    /// Writes the instance (`None`: there is none) and its generation, in one step. Under the lock.
    fn publish(
        &self,
        instance: Option<&Instance>,
        generation: u16,
        lock: Lock,
    ) -> impl Future<Output = Step<()>> + Send;

    fn unlock(&self) -> impl Future<Output = Step<()>> + Send;

    /// The same, if a supervisor lives to see to the service.
    fn unlock_to_supervisor(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference and the lock, if somebody else holds a reference, too.
    fn abandon(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, if somebody else holds one, too.
    fn leave(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the last reference and takes the lock, if it is the last, nobody holds the lock,
    /// and the service is not pinned.
    fn leave_last(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, last or not, if a supervisor lives to see to the service.
    fn leave_to_supervisor(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, last or not, if the service is pinned.
    fn leave_pinned(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Keeps the service although nobody holds a reference, until it is unpinned. By who has a reference;
    /// once or more often is the same.
    fn pin(&self) -> impl Future<Output = Step<()>> + Send;

    /// Ends that. False if it is not pinned. By who has a reference, and sees to the service if it is the
    /// last to leave.
    fn unpin(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Gives back the reference, whatever the others do.
    fn drop_reference(&self) -> impl Future<Output = Step<()>> + Send;

    /// Changes this process's references from whatever it has so that the count of all goes from
    /// exactly `from` to exactly `to`; refused if the count is another one or, with `unlocked`, if
    /// somebody holds the lock.
    fn recount(
        &self,
        from: u32,
        to: u32,
        unlocked: bool,
    ) -> impl Future<Output = Step<bool>> + Send;

    /// Removes the object. Under the lock; the remover touches nothing afterwards.
    fn remove(&self) -> impl Future<Output = Step<()>> + Send;

    /// Sleeps until the object is removed, and is [`Fault::Removed`] then.
    fn wait_removed(&self) -> impl Future<Output = Step<()>> + Send;

    /// The process that holds the lock, for messages. Of several, the one that has announced the transition.
    fn lock_holder(&self) -> impl Future<Output = Step<Option<u32>>> + Send;

    /// How many processes sleep until the lock is free, as far as the kernel tells. A supervisor that shares
    /// the lock is one of them.
    fn sleepers(&self) -> impl Future<Output = Step<u32>> + Send {
        async { Ok(0) }
    }

    /// The process that was the last to become the supervisor, if there is a supervisor.
    fn supervisor(&self) -> impl Future<Output = Step<Option<u32>>> + Send {
        std::future::ready(Ok(None))
    }

    /// Everything there is to tell, for people.
    fn inspect(&self) -> impl Future<Output = Step<Inspection>> + Send;
}

/// Removes an object that no process has claimed or uses.
///
/// The client that has created it calls this when the kernel refuses the first step on it, for want of memory, say: no
/// process would ever use the object again, and it does not say whose it is. This takes the lock first. With the lock held
/// no process can enter or join, so none loses a reference; a process that opened the object finds it removed and opens
/// another one. If the kernel refuses the lock as well, the object stays for the next client of the name.
pub(crate) async fn remove_blank<O: Object>(object: &O) {
    let is_blank = |snapshot: &Snapshot| {
        !snapshot.claimed
            && snapshot.clients == 0
            && snapshot.instance.is_none()
            && !snapshot.pinned
            && !snapshot.supervised
    };
    match object.snapshot().await {
        Ok(snapshot) if is_blank(&snapshot) && !snapshot.locked => {}
        _ => return,
    }
    if !matches!(object.try_lock().await, Ok(true)) {
        return;
    }
    // Its own error is what the caller reports.
    let _ = match object.snapshot().await {
        Ok(snapshot) if is_blank(&snapshot) => object.remove().await,
        _ => object.unlock().await,
    };
}
