//! The contract of a kernel: one counted object per service.
//!
//! Every backend implements this contract, and the engine uses backends only through it. The drawing shows
//! the object of the System V backend, and the processes that change each part. Other backends store the same
//! data.
//!
//! ```text
//!                     ┌──────────────────────────────────────────────────────────────────────────────┐
//!                     │ the object of one service: a semaphore set                                   │
//!                     │                                                                              │
//!  clients ──────────▶│ REFS         references: enter, join and recount add, leave subtracts        │
//!                     │ HOLDERS      1 for each client that has a name here                          │
//!                     │                                                                              │
//!  the process in a ─▶│ LOCK         the transition lock: enter and lock take it, unlock releases it │
//!  transition         │ LIMIT        longest duration of the transition, announced by its holder     │
//!                     │ NAMESPACE    owner of the object: digests of namespace and name, claimed once│
//!                     │ NAME                                                                         │
//!                     │ GENERATION   the instance: published while the lock is held                  │
//!                     │ PID START PORT FLAGS LINGER                                                  │
//!                     │                                                                              │
//!  clients ──────────▶│ PIN          1 while the service is pinned                                   │
//!                     │                                                                              │
//!  supervisors ──────▶│ SUPERVISOR   number of supervisors                                           │
//!                     │ TREE         number of supervisors that are parents of service processes     │
//!                     │ SUPERVISOR_PID  always 0; the last process that tested it is the supervisor  │
//!                     │ EXIT         how the service ended, until the next instance                  │
//!                     └──────────────────────────────────────────────────────────────────────────────┘
//!  the kernel undoes, when a process dies: REFS, HOLDERS, LOCK, SUPERVISOR, TREE
//! ```
//!
//! The contract has these rules, in addition to the documentation of each method:
//!
//! - **Every step is atomic.** All of its changes happen, or none, even if the process dies during the step.
//! - **References and locks end with the process** that holds them. The kernel releases them without running
//!   any code of the process. Other data that a step has written stays.
//! - A reference and the lock belong to the *process*: any of its threads may release them. A child made by `fork`
//!   has neither.
//! - **A step does not wait**, except [`Object::wait_unlocked`], [`Object::wait_tree_exited`] and
//!   [`Object::wait_removed`]. These may block the thread that polls them, so the engine polls them on separate threads.
//! - After an object is removed, every step on it returns [`Fault::Removed`], including the steps that sleep.
//!
//! The steps are `async` so that the model can switch to another process at each step. On a real kernel they are
//! ready when they are first polled.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::Identity;

#[cfg(test)]
mod conformance;
#[cfg(unix)]
pub(crate) mod counted;
mod inspection;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
pub(crate) mod selection;
#[cfg(any(unix, test))]
pub(crate) mod semset;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(target_os = "linux")]
mod sysv;
#[cfg(any(unix, test))]
pub(crate) mod table;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub(crate) use linux::{Linux as Native, NativeSet};
#[cfg(target_os = "macos")]
pub(crate) use macos::{Counted as Native, NativeSet};
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) use sysv::fuzz;
#[cfg(windows)]
pub(crate) use windows::{NativeSet, Windows as Native};

pub(crate) use inspection::{Inspection, exit_status};
pub(crate) use procref_supervisor::state::{Ended, Instance, Lock, MAX_LINGER_MS, Snapshot};

/// The reason why a step did not happen.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The object was removed, together with every reference and lock on it.
    Removed,
    /// The kernel refused the step.
    Refused(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The result of a step.
pub(crate) type Step<T> = Result<T, Fault>;

/// The object of a service in this machine's kernel.
pub(crate) type NativeObject = <Native as Kernel>::Object;

/// Access to the objects of one kernel.
pub(crate) trait Kernel: Send + Sync + 'static {
    type Object: Object;

    /// `true` if a service needs a supervisor, which stops the service if all of its clients are killed. Some
    /// kernels terminate the service themselves. On such a kernel, the engine starts no supervisors.
    const NEEDS_SUPERVISOR: bool = true;

    /// Does work in advance that the first step would do otherwise.
    fn prepare(&self) {}

    /// Opens the object of a service, and checks that it belongs to this user.
    ///
    /// A new object is blank: it has no references, is unlocked and has no instance. Returns `None` if the object is
    /// missing and `missing` is [`Missing::Ignore`].
    fn open(
        &self,
        key: &ServiceKey,
        missing: Missing,
    ) -> impl Future<Output = Result<Option<Self::Object>>> + Send;

    /// Returns the digests of the names of all services in a namespace. This excludes objects that no process
    /// has claimed, because they do not name their service.
    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>>;

    /// Removes the files of objects that no process uses and that contain nothing. A kernel without files has none.
    fn sweep(&self, _: &Namespace) -> Result<()> {
        Ok(())
    }

    /// Returns `true` if the object of any service, in any namespace, names this process as its instance and not as a
    /// client.
    ///
    /// Some kernels always return `false`.
    fn is_instance(_: Identity) -> Result<bool> {
        Ok(false)
    }

    /// Returns the object's name in the system's own tools.
    fn object_name(key: &ServiceKey) -> String;

    /// Sends a stop request to the processes that a service has started, if the service's own process cannot
    /// receive one. Returns `false` if these processes cannot receive one either.
    fn request_tree_stop(_: Identity) -> bool {
        false
    }
}

/// The behavior if an object does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Ignore,
}

/// States whether a step requires a living supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supervised {
    Yes,
    No,
}

/// The kernel object of one service.
///
/// A step that returns a `bool` returns `true` if it happened, and `false` if one of its conditions did not hold. In
/// that case it changed nothing.
pub(crate) trait Object: Send + Sync + 'static {
    /// Data that a client keeps with an instance, to join the instance again.
    type Rejoin: Send + Sync + 'static;

    fn snapshot(&self) -> impl Future<Output = Step<Snapshot>> + Send;

    /// Takes a reference if a process holds one and no process holds the lock. With
    /// [`Supervised::Yes`], also requires a living supervisor.
    fn join(&self, supervised: Supervised) -> impl Future<Output = Step<bool>> + Send;

    /// Like [`join`](Self::join), but also requires that the object has this instance with this generation, and no other
    /// state of it. The instance was read from this object before.
    ///
    /// Also returns `false` if this kernel cannot check that in one step. The caller then joins, and reads the object.
    fn rejoin(
        &self,
        _: &Instance,
        _generation: u16,
        _: Supervised,
        _: &OnceLock<Self::Rejoin>,
    ) -> impl Future<Output = Step<bool>> + Send {
        std::future::ready(Ok(false))
    }

    /// Sleeps until no process holds the lock. All sleepers wake together.
    ///
    /// When this returns, another process may have taken the lock again. So the caller retries its step, and may have
    /// to wait again.
    fn wait_unlocked(&self) -> impl Future<Output = Step<()>> + Send;

    /// Like [`wait_unlocked`](Self::wait_unlocked), but blocks this thread, for at most `limit`.
    ///
    /// Returns `false` if the limit has passed, and `None` if this kernel cannot wait with a limit.
    fn wait_unlocked_within(&self, _limit: Duration) -> Option<Step<bool>> {
        None
    }

    /// Sleeps until the processes of the service have exited, if a supervisor is their parent. Returns immediately on a
    /// kernel without supervisors.
    fn wait_tree_exited(&self) -> impl Future<Output = Step<()>> + Send {
        async { Ok(()) }
    }

    /// Takes the lock **and** a reference, if no process holds the lock.
    fn try_enter(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Takes the lock, if no process holds it. The caller has a reference already.
    fn try_lock(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Writes the digests of the service to which the object belongs. The caller holds the lock and does this
    /// once.
    fn claim(&self) -> impl Future<Output = Step<()>> + Send;

    /// Writes the longest duration of the transition. If the object is not claimed, claims it. The caller holds the
    /// lock.
    fn announce(&self, limit: Duration) -> impl Future<Output = Step<()>> + Send;

    /// Marks the instance as stopping, and writes the longest duration of the stop, in one step. The caller
    /// holds the lock.
    fn publish_stopping(
        &self,
        instance: &Instance,
        generation: u16,
        limit: Duration,
    ) -> impl Future<Output = Step<()>> + Send;

    /// Writes the instance and its generation, in one step. `None` clears the instance. The caller holds the lock.
    fn publish(
        &self,
        instance: Option<&Instance>,
        generation: u16,
        lock: Lock,
    ) -> impl Future<Output = Step<()>> + Send;

    fn unlock(&self) -> impl Future<Output = Step<()>> + Send;

    /// Releases the lock, if a living supervisor takes over the service.
    fn unlock_to_supervisor(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Releases the reference and the lock, if another process also holds a reference.
    fn abandon(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Releases the reference, if another process also holds one.
    fn leave(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Releases the last reference and takes the lock. Requires that this process holds the only reference, that no
    /// process holds the lock, and that the service is not pinned.
    fn leave_last(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Releases the reference if a living supervisor takes over the service. It may be the last reference.
    fn leave_to_supervisor(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Releases the reference if the service is pinned. It may be the last reference.
    fn leave_pinned(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Pins the service: it is kept without references until it is unpinned. The caller has a reference.
    /// Pinning a pinned service has no effect.
    fn pin(&self) -> impl Future<Output = Step<()>> + Send;

    /// Unpins the service. Returns `false` if it is not pinned. The caller has a reference, and stops the service if
    /// it is the last client to leave.
    fn unpin(&self) -> impl Future<Output = Step<bool>> + Send;

    /// Releases the reference. Other processes may or may not hold one.
    fn drop_reference(&self) -> impl Future<Output = Step<()>> + Send;

    /// Changes this process's references so that the count of all references changes from exactly `from` to
    /// exactly `to`.
    ///
    /// Returns `false` if the count differs from `from`. With `unlocked`, also returns `false` if a process holds the
    /// lock.
    fn recount(
        &self,
        from: u32,
        to: u32,
        unlocked: bool,
    ) -> impl Future<Output = Step<bool>> + Send;

    /// Removes the object. The caller holds the lock, and takes no other step on the object afterwards.
    fn remove(&self) -> impl Future<Output = Step<()>> + Send;

    /// Sleeps until the object is removed, and then returns [`Fault::Removed`].
    fn wait_removed(&self) -> impl Future<Output = Step<()>> + Send;

    /// Returns the process that holds the lock, for messages. If several processes share it, returns the one that
    /// announced the transition.
    fn lock_holder(&self) -> impl Future<Output = Step<Option<u32>>> + Send;

    /// Returns the number of processes that sleep until the lock is free, if the kernel counts them. A
    /// supervisor that shares the lock is one of them.
    fn sleepers(&self) -> impl Future<Output = Step<u32>> + Send {
        async { Ok(0) }
    }

    /// Returns the process that became the supervisor last, if a supervisor is alive.
    fn supervisor(&self) -> impl Future<Output = Step<Option<u32>>> + Send {
        std::future::ready(Ok(None))
    }

    /// Returns all data of the object, for people.
    fn inspect(&self) -> impl Future<Output = Step<Inspection>> + Send;
}

/// Removes an object that no process has claimed or uses.
///
/// The client that created the object calls this if the kernel refuses the first step on it, for example for
/// lack of memory. Otherwise the object would stay without naming its service. This function takes the lock
/// first. While the lock is held, no process can enter or join, so no process loses a reference. A process
/// that has opened the object gets [`Fault::Removed`] and opens another one. If the kernel refuses the lock,
/// too, the object stays for the next client of the name.
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
    // The caller reports the error of its own step, not this one.
    let _ = match object.snapshot().await {
        Ok(snapshot) if is_blank(&snapshot) => object.remove().await,
        _ => object.unlock().await,
    };
}
