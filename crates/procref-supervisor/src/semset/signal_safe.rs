//! The steps that a supervisor calls. Their code is async-signal-safe.

use core::time::Duration;

use super::layout::{Values, decode, encode, encode_stopping};
use super::op_list::OpList;
use super::steps::{
    Op, SUPERVISE, SUPERVISE_TREE, UNLOCK, UNREGISTER, WAIT_ALONE, WAIT_CLIENT, WAIT_IDLE,
    WAIT_IDLE_RETIRED,
};
use crate::state::Lock;
use crate::state::{Ended, Instance, Snapshot};

/// The reason why a step did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A condition did not hold, or not before the limit.
    NotNow,
    /// The set was removed, is unusable, or has another supervisor that replaces this one.
    Gone,
}

pub type SetResult<T> = Result<T, Refused>;

/// The primitive calls on one set. Signals interrupt none of them except [`sleep`](Self::sleep).
///
/// On a real kernel each call is ready when it is first polled. Neither the calls nor the steps allocate: their
/// futures are values on the caller's stack.
#[expect(
    async_fn_in_trait,
    reason = "a supervisor has one thread, and needs no `Send`"
)]
pub trait SetCalls: Copy {
    /// The limit of a sleep. A signal handler can end it.
    type Limit;

    async fn operate(self, ops: &[Op]) -> SetResult<()>;

    /// Sleeps until the array can be performed, at most `limit`.
    async fn operate_within(self, ops: &[Op], limit: Duration) -> SetResult<()>;

    /// Sleeps until the array can be performed.
    ///
    /// This may return [`Refused::NotNow`] early: after a signal, after SIGCONT, or at the end of the limit.
    /// The caller checks the condition that it waits for.
    async fn sleep(self, ops: &[Op], limit: &Self::Limit) -> SetResult<()>;

    async fn values(self) -> SetResult<Values>;

    async fn remove(self) -> SetResult<()>;
}

/// An open set.
#[derive(Clone, Copy, Debug)]
pub struct SignalSafeSet<C>(C);

impl<C: SetCalls> SignalSafeSet<C> {
    pub fn new(calls: C) -> Self {
        Self(calls)
    }

    /// Registers this process as a supervisor for as long as it lives.
    pub async fn supervise(self) -> SetResult<()> {
        self.0.operate(&SUPERVISE).await
    }

    /// Registers this process as a supervisor that is the parent of the service, and shares the lock with its
    /// starter.
    ///
    /// Sleeps until the processes of an earlier supervisor have exited, at most `limit`. Also fails if the starter
    /// has released the lock or died.
    pub async fn supervise_tree(self, limit: Duration) -> SetResult<()> {
        self.0.operate_within(&SUPERVISE_TREE, limit).await
    }

    /// Sleeps until the service is idle, and then holds the lock.
    pub async fn wait_idle(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_IDLE, limit).await
    }

    /// Sleeps until the service is idle, and then holds the lock. Fails with [`Refused::Gone`] if there is another
    /// supervisor.
    pub async fn wait_idle_retired(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_IDLE_RETIRED, limit).await
    }

    /// Unregisters this supervisor, if there is another one. Otherwise fails with [`Refused::NotNow`].
    pub async fn unregister(self) -> SetResult<()> {
        self.0.operate(&UNREGISTER).await
    }

    /// Sleeps until this process is the only holder of the lock.
    pub async fn wait_alone(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_ALONE, limit).await
    }

    /// Takes the lock if the service is idle.
    pub async fn try_idle(self) -> SetResult<()> {
        self.0.operate(&WAIT_IDLE).await
    }

    /// Sleeps until a process holds a reference.
    pub async fn wait_client(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_CLIENT, limit).await
    }

    /// Releases TREE, and stores the exit status of the service. With [`Lock::Release`], also releases the share of the
    /// lock. This process stays registered as a supervisor.
    pub async fn retire(self, lock: Lock, ended: Option<Ended>) -> SetResult<()> {
        let list = OpList::retirement(lock, ended);
        self.0.operate(list.ops()).await
    }

    pub async fn unlock(self) -> SetResult<()> {
        self.0.operate(&UNLOCK).await
    }

    pub async fn snapshot(self) -> SetResult<Snapshot> {
        Ok(decode(&self.0.values().await?, true))
    }

    /// Publishes an instance, or clears it. The caller holds the lock.
    pub async fn publish(self, instance: Option<&Instance>, generation: u16) -> SetResult<()> {
        self.write(|values| encode(values, instance, generation))
            .await
    }

    /// Publishes that the instance is being stopped, and the longest duration of that. The caller holds the lock.
    pub async fn publish_stopping(
        self,
        instance: &Instance,
        generation: u16,
        limit: Duration,
    ) -> SetResult<()> {
        self.write(|values| encode_stopping(values, instance, generation, limit))
            .await
    }

    async fn write(self, change: impl FnOnce(&mut Values)) -> SetResult<()> {
        let before = self.0.values().await?;
        let mut after = before;
        change(&mut after);
        let list = OpList::between(&before, &after, Lock::Keep);
        if list.ops().is_empty() {
            return Ok(());
        }
        self.0.operate(list.ops()).await
    }

    pub async fn remove(self) -> SetResult<()> {
        self.0.remove().await
    }
}
