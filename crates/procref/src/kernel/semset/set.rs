//! One service's set, as the engine sees it.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::holders::{HolderSlot, LOOKS, TRIES, free_slot, is_possible};
use super::layout::{Values, decode, digests_in, encode, encode_stopping, pack, pack_limit, slot};
use super::op_list::OpList;
use super::steps::*;
use crate::kernel::state::{Inspection, Instance, Snapshot};
use crate::kernel::{Fault, Lock, Object, Step, Supervised};
use crate::key::ServiceKey;
use crate::name::Digest;

/// The primitive calls on one set.
pub(crate) trait SemArray: Send + Sync + 'static {
    /// Performs all operations at once, or none of them: then it sleeps until they can be performed,
    /// or answers false at once.
    fn operate(
        &self,
        operation: &'static str,
        ops: &[Op],
        wait: Wait,
    ) -> impl Future<Output = Step<bool>> + Send;

    /// Performs all operations at once on this thread, and sleeps at most so long until they can be: false
    /// then. `None`: only without a limit.
    fn operate_within(
        &self,
        _operation: &'static str,
        _ops: &[Op],
        _limit: Duration,
    ) -> Option<Step<bool>> {
        None
    }

    fn values(&self) -> impl Future<Output = Step<Values>> + Send;

    fn remove(&self) -> impl Future<Output = Step<()>> + Send;

    /// The process that was the last to perform an array with this slot in it.
    fn last_pid(&self, slot: u16) -> impl Future<Output = Step<Option<u32>>> + Send;

    /// How many processes sleep until this slot is 0.
    fn sleepers(&self, slot: u16) -> impl Future<Output = Step<u32>> + Send;

    /// When an array was performed last.
    fn changed_at(&self) -> impl Future<Output = Step<SystemTime>> + Send;

    /// The process that makes these calls.
    fn own_pid(&self) -> u32;

    /// What to say about a step that cannot fail unless somebody else writes to the set.
    fn corrupted(&self, operation: &'static str) -> Fault;
}

/// Whose object a set is, as far as its digests tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Nobody,
    This,
    Another,
}

/// One service's set.
pub(crate) struct Set<A> {
    array: A,
    digests: (Digest, Digest),
    holder: HolderSlot,
}

impl<A: SemArray> Set<A> {
    pub(crate) fn new(array: A, key: &ServiceKey) -> Self {
        Self {
            array,
            digests: key.digests(),
            holder: HolderSlot::default(),
        }
    }

    pub(crate) fn array(&self) -> &A {
        &self.array
    }

    /// Sees in passing which names are to be had.
    pub(crate) fn learn(&self, values: &Values) {
        self.holder.learn(values, || self.array.own_pid());
    }

    pub(crate) fn owner_of(&self, values: &Values) -> Owner {
        match digests_in(values) {
            (0, 0) => Owner::Nobody,
            (space, name) if (space, name) == self.packed() => Owner::This,
            _ => Owner::Another,
        }
    }

    fn decoded(&self, values: &Values) -> Step<Snapshot> {
        let owner = self.owner_of(values);
        if owner == Owner::Another {
            // It was ours when it was opened. Kernels hand out the ids of removed sets again, after
            // some millions of others: somebody else's set has this one's id by now.
            return Err(Fault::Removed);
        }
        Ok(decode(values, owner == Owner::This))
    }

    fn packed(&self) -> (u128, u128) {
        (self.digests.0.bits().into(), self.digests.1.bits().into())
    }

    async fn try_once(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        self.array.operate(operation, ops, Wait::No).await
    }

    /// A step that the lock, or a reference, makes certain.
    async fn expect_done(&self, operation: &'static str, ops: &[Op]) -> Step<()> {
        if self.try_once(operation, ops).await? {
            Ok(())
        } else {
            Err(self.array.corrupted(operation))
        }
    }

    /// Brings slots to new values in ONE array. A row of `SETVAL`s would show half an identity to
    /// whoever looks in between or comes after a death in between, and `SETVAL` makes the kernel
    /// forget every process's undo for the slot.
    async fn write(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut Values) + Send,
        lock: Lock,
    ) -> Step<()> {
        let before = self.array.values().await?;
        let mut after = before;
        change(&mut after);
        let changes = OpList::between(&before, &after, lock);
        if changes.ops().is_empty() {
            return Ok(());
        }
        self.expect_done(operation, changes.ops()).await
    }
}

impl<A: SemArray> Object for Set<A> {
    async fn snapshot(&self) -> Step<Snapshot> {
        let values = self.array.values().await?;
        self.learn(&values);
        self.decoded(&values)
    }

    async fn join(&self, supervised: Supervised) -> Step<bool> {
        let ops: &[Op] = match supervised {
            Supervised::Yes => &JOIN_SUPERVISED,
            Supervised::No => &JOIN,
        };
        self.take("join the service", ops).await
    }

    async fn wait_unlocked(&self) -> Step<()> {
        let operation = "wait for another process's transition";
        self.array
            .operate(operation, &WAIT_UNLOCKED, Wait::Yes)
            .await
            .map(drop)
    }

    fn wait_unlocked_within(&self, limit: Duration) -> Option<Step<bool>> {
        let operation = "wait for another process's transition";
        self.array.operate_within(operation, &WAIT_UNLOCKED, limit)
    }

    async fn try_enter(&self) -> Step<bool> {
        self.take("take the lock and a reference", &ENTER).await
    }

    async fn try_lock(&self) -> Step<bool> {
        self.try_once("take the lock", &LOCK).await
    }

    async fn claim(&self) -> Step<()> {
        let (space, name) = self.packed();
        let claim = |values: &mut Values| {
            pack(values, slot::NAMESPACE, space);
            pack(values, slot::NAME, name);
        };
        self.write("claim the set", claim, Lock::Keep).await
    }

    async fn announce(&self, limit: Duration) -> Step<()> {
        let (space, name) = self.packed();
        let before = self.array.values().await?;
        let mut after = before;
        pack(&mut after, slot::NAMESPACE, space);
        pack(&mut after, slot::NAME, name);
        pack_limit(&mut after, limit);
        let changes = OpList::between(&before, &after, Lock::Keep);
        let changes = changes.marked(ANNOUNCED, &after);
        self.expect_done("announce the transition", changes.ops())
            .await
    }

    async fn publish_stopping(
        &self,
        instance: &Instance,
        generation: u16,
        limit: Duration,
    ) -> Step<()> {
        let change = |values: &mut Values| encode_stopping(values, instance, generation, limit);
        self.write("publish the instance", change, Lock::Keep).await
    }

    async fn publish(&self, instance: Option<&Instance>, generation: u16, lock: Lock) -> Step<()> {
        let operation = match instance {
            Some(_) => "publish the instance",
            None => "clear the instance",
        };
        let change = |values: &mut Values| encode(values, instance, generation);
        self.write(operation, change, lock).await
    }

    async fn unlock(&self) -> Step<()> {
        self.expect_done("release the lock", &UNLOCK).await
    }

    async fn unlock_to_supervisor(&self) -> Step<bool> {
        let operation = "leave the lock to the supervisor";
        self.try_once(operation, &UNLOCK_TO_SUPERVISOR).await
    }

    async fn abandon(&self) -> Step<bool> {
        self.give("give back the lock and the reference", &ABANDON)
            .await
    }

    async fn leave(&self) -> Step<bool> {
        self.give("leave the service", &LEAVE).await
    }

    async fn leave_last(&self) -> Step<bool> {
        self.give("leave the service as the last", &LEAVE_LAST)
            .await
    }

    async fn leave_to_supervisor(&self) -> Step<bool> {
        self.give("leave the service to its supervisor", &LEAVE_TO_SUPERVISOR)
            .await
    }

    async fn leave_pinned(&self) -> Step<bool> {
        self.give("leave the pinned service", &LEAVE_PINNED).await
    }

    async fn pin(&self) -> Step<()> {
        self.try_once("pin the service", &PIN).await.map(drop)
    }

    async fn unpin(&self) -> Step<bool> {
        self.try_once("unpin the service", &UNPIN).await
    }

    async fn drop_reference(&self) -> Step<()> {
        let operation = "give back the reference";
        if self.give(operation, &DROP_REFERENCE).await? {
            Ok(())
        } else {
            Err(self.array.corrupted(operation))
        }
    }

    async fn recount(&self, from: u32, to: u32, unlocked: bool) -> Step<bool> {
        let mut ops = Vec::with_capacity(4);
        if unlocked {
            ops.push(UNLOCKED);
        }
        // Down to zero, be sure that it is zero, and up: exactly `from`, or nothing happens. The
        // undo of the array is the difference, which is all this process takes or gives back.
        if from > 0 {
            ops.push(undo(slot::REFS, -to_delta(from)));
        }
        ops.push(op(slot::REFS, 0));
        if to > 0 {
            ops.push(undo(slot::REFS, to_delta(to)));
        }
        self.try_once("count", &ops).await
    }

    async fn remove(&self) -> Step<()> {
        self.array.remove().await
    }

    async fn wait_removed(&self) -> Step<()> {
        let operation = "wait for the removal of the set";
        self.array
            .operate(operation, &WAIT_REMOVED, Wait::Yes)
            .await
            .map(drop)
    }

    async fn lock_holder(&self) -> Step<Option<u32>> {
        let values = self.array.values().await?;
        self.holder_of_lock(&values).await
    }

    async fn supervisor(&self) -> Step<Option<u32>> {
        match self.array.last_pid(slot::SUPERVISOR_PID).await? {
            Some(pid) if self.array.values().await?[slot::SUPERVISOR as usize] > 0 => Ok(Some(pid)),
            _ => Ok(None),
        }
    }

    async fn sleepers(&self) -> Step<u32> {
        self.array.sleepers(slot::LOCK).await
    }

    async fn inspect(&self) -> Step<Inspection> {
        self.look_around().await
    }
}

fn to_delta(count: u32) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

impl<A: SemArray> Set<A> {
    /// Takes a reference, and a name where one is to be had.
    async fn take(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        let mut next = self.holder.first_choice(|| self.array.own_pid());
        for _ in 0..TRIES {
            let Some(choice) = next else {
                break;
            };
            let named = OpList::and(ops, &[op(choice, 0), undo(choice, 1)]);
            if self.try_once(operation, named.ops()).await? {
                self.holder.take(choice);
                return Ok(true);
            }
            // By a condition of the step's, or because somebody else has the slot: the kernel does not
            // say. To take it for the former would let a join fail for the sake of a name.
            let values = self.array.values().await?;
            if !is_possible(ops, &values) {
                return Ok(false);
            }
            next = free_slot(&values, choice);
        }
        self.try_once(operation, ops).await
    }

    /// Gives back a reference, and the name that came with it.
    async fn give(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        let held = self.holder.held.load(Ordering::Relaxed);
        if held == 0 {
            return self.try_once(operation, ops).await;
        }
        let named = OpList::and(ops, &[undo(held, -1)]);
        if self.try_once(operation, named.ops()).await? {
            self.holder.held.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        if self.array.values().await?[held as usize] > 0 {
            return Ok(false);
        }
        // Somebody has set it to 0 from outside. A name is not worth a reference that cannot be given
        // back.
        self.holder.held.store(0, Ordering::Relaxed);
        self.try_once(operation, ops).await
    }

    /// The process that holds the lock on these values; `None` if no process holds it.
    ///
    /// While a command starts, its starter and its supervisor share the lock. The supervisor was the last to take
    /// its share, so LOCK names that. The process that all others wait for is the starter, which has announced the
    /// start before.
    async fn holder_of_lock(&self, values: &Values) -> Step<Option<u32>> {
        match values[slot::LOCK as usize] {
            0 => Ok(None),
            1 => self.array.last_pid(slot::LOCK).await,
            _ => self.array.last_pid(ANNOUNCED).await,
        }
    }

    async fn look_around(&self) -> Step<Inspection> {
        let mut before = self.array.values().await?;
        let mut looks = 0;
        loop {
            let mut named = Vec::new();
            for slot in slot::HOLDERS.filter(|&slot| before[slot as usize] > 0) {
                if let Some(pid) = self.array.last_pid(slot).await? {
                    named.push((slot, pid));
                }
            }
            let supervisor = self.array.last_pid(slot::SUPERVISOR_PID).await?;
            let transition = self.holder_of_lock(&before).await?;
            let changed_at = self.array.changed_at().await?;
            let after = self.array.values().await?;
            looks += 1;
            if after != before && looks < LOOKS {
                before = after;
                continue;
            }
            // On a busy object the last look has to do. Who has gone meanwhile holds nothing.
            named.retain(|&(slot, _)| after[slot as usize] > 0);
            let snapshot = self.decoded(&after)?;
            let mut holders: Vec<u32> = named.iter().map(|&(_, pid)| pid).collect();
            // A program that took the place of another one by `exec` may have acquired anew.
            holders.sort_unstable();
            holders.dedup();
            return Ok(Inspection {
                unnamed: snapshot.clients.saturating_sub(named.len() as u32),
                holders,
                supervisor: supervisor.filter(|_| snapshot.supervised),
                transition: transition.filter(|_| snapshot.locked),
                changed_at,
                snapshot,
            });
        }
    }
}
