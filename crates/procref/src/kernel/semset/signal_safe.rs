//! The supervisor's steps, for a process that may do nothing but bare system calls.

use std::time::Duration;

use super::layout::{Values, decode, encode, encode_stopping};
use super::op_list::OpList;
use super::steps::{
    Op, RESIGN_TO, STEP_DOWN, SUPERVISE, SUPERVISE_TREE, UNLOCK, WAIT_ALONE, WAIT_CLIENT, WAIT_IDLE,
};
use crate::kernel::Lock;
use crate::kernel::state::{Ended, Instance, Snapshot};

/// Why a step did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// A condition does not hold, or did not in the time that was given.
    NotNow,
    /// The set is gone, or of no use any more.
    Gone,
}

pub(crate) type SetResult<T> = Result<T, Refused>;

/// The primitive calls on one set. None of them is ended by a signal but [`sleep`](Self::sleep).
///
/// On a real kernel they are ready at once, as those of [`Array`](super::Array), and neither they nor what is
/// made of them allocates: such a future is a value on its caller's stack.
pub(crate) trait SetCalls: Copy {
    /// What a sleep ends with, and a signal handler can bring to its end.
    type Limit;

    async fn operate(self, ops: &[Op]) -> SetResult<()>;

    /// Sleeps until the array can be performed, at most so long.
    async fn operate_within(self, ops: &[Op], limit: Duration) -> SetResult<()>;

    /// Sleeps until the array can be performed.
    ///
    /// It may end early and without a reason, as [`Refused::NotNow`]: at a signal, at SIGCONT, at the end of
    /// the limit. Its caller knows what it waits for.
    async fn sleep(self, ops: &[Op], limit: &Self::Limit) -> SetResult<()>;

    async fn values(self) -> SetResult<Values>;

    async fn remove(self) -> SetResult<()>;
}

/// A set that is open already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignalSafeSet<C>(C);

impl<C: SetCalls> SignalSafeSet<C> {
    pub(crate) fn new(calls: C) -> Self {
        Self(calls)
    }

    /// Counts this process as a supervisor for as long as it lives.
    pub(crate) async fn supervise(self) -> SetResult<()> {
        self.0.operate(&SUPERVISE).await
    }

    /// Counts this process as a supervisor that is the parent of the service's processes, and shares the
    /// lock with its starter. Sleeps until an older one's processes are gone, at most `limit`; refused,
    /// too, if the starter has let go of the lock or died.
    pub(crate) async fn supervise_tree(self, limit: Duration) -> SetResult<()> {
        self.0.operate_within(&SUPERVISE_TREE, limit).await
    }

    /// Takes back [`supervise_tree`](Self::supervise_tree).
    pub(crate) async fn step_down(self) -> SetResult<()> {
        self.0.operate(&STEP_DOWN).await
    }

    /// Sleeps until nobody is left, and has the lock then.
    pub(crate) async fn wait_idle(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_IDLE, limit).await
    }

    /// Sleeps until the lock is this process's alone.
    pub(crate) async fn wait_alone(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_ALONE, limit).await
    }

    /// Takes the lock if nobody is there.
    pub(crate) async fn try_idle(self) -> SetResult<()> {
        self.0.operate(&WAIT_IDLE).await
    }

    /// Sleeps until somebody is there.
    pub(crate) async fn wait_client(self, limit: &C::Limit) -> SetResult<()> {
        self.0.sleep(&WAIT_CLIENT, limit).await
    }

    /// Gives up SUPERVISOR and TREE, and the share of the lock if there is one, and says how the service
    /// ended. Refused if nobody holds the service and it is not pinned: somebody has to see to it.
    pub(crate) async fn resign(self, lock: Lock, ended: Option<Ended>) -> SetResult<()> {
        for to in RESIGN_TO {
            let changes = OpList::resignation(to, lock, ended);
            let done = self.0.operate(changes.ops()).await;
            if done != Err(Refused::NotNow) {
                return done;
            }
        }
        Err(Refused::NotNow)
    }

    pub(crate) async fn unlock(self) -> SetResult<()> {
        self.0.operate(&UNLOCK).await
    }

    pub(crate) async fn snapshot(self) -> SetResult<Snapshot> {
        Ok(decode(&self.0.values().await?, true))
    }

    /// Under the lock.
    pub(crate) async fn publish(
        self,
        instance: Option<&Instance>,
        generation: u16,
    ) -> SetResult<()> {
        self.write(|values| encode(values, instance, generation))
            .await
    }

    /// Publishes that the instance is being stopped, and how long that takes at most. Under the lock.
    pub(crate) async fn publish_stopping(
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
        let changes = OpList::between(&before, &after, Lock::Keep);
        if changes.ops().is_empty() {
            return Ok(());
        }
        self.0.operate(changes.ops()).await
    }

    pub(crate) async fn remove(self) -> SetResult<()> {
        self.0.remove().await
    }
}
