//! The steps as the engine calls them.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::holders::{HolderSlot, READS, TRIES, free_slot, is_possible};
use super::layout::{
    INSTANCE_SLOTS, OWNER_SLOTS, Values, decode, digests_in, encode, encode_stopping, pack,
    pack_limit, slot,
};
use super::op_list::OpList;
use super::steps::*;
use crate::kernel::{Fault, Lock, Object, Step, Supervised};
use crate::kernel::{Inspection, Instance, Snapshot};
use crate::key::ServiceKey;
use crate::name::Digest;

/// The primitive calls on one set.
pub(crate) trait SemArray: Send + Sync + 'static {
    /// An array in the form that this kernel reads.
    type Prepared: Send + Sync + 'static;

    /// Performs all operations atomically, or none.
    ///
    /// If they cannot be performed now, sleeps until they can, or returns `false` if `wait` is [`Wait::No`].
    fn operate(
        &self,
        operation: &'static str,
        ops: &[Op],
        wait: Wait,
    ) -> impl Future<Output = Step<bool>> + Send;

    /// Converts an array for [`operate_on_own`](Self::operate_on_own). A client does this once for an array that it
    /// performs again and again.
    fn prepare(&self, ops: &[Op]) -> Self::Prepared;

    /// Performs an array that checks by itself whether the set is that of the service ([`OWNER_SLOTS`]). Returns
    /// `false` if the array cannot be performed now, or is too long for this kernel.
    fn operate_on_own(
        &self,
        operation: &'static str,
        array: &Self::Prepared,
    ) -> impl Future<Output = Step<bool>> + Send;

    /// Returns `true` if arrays may be longer than [`MAX_OPS`].
    fn has_long_arrays(&self) -> bool;

    /// Performs all operations atomically, or none. Sleeps on this thread until they can be performed, at
    /// most `limit`.
    ///
    /// Returns `false` if the limit has passed, and `None` if this kernel cannot sleep with a limit.
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

    /// Returns the process that performed the last array with an operation on this slot.
    fn last_pid(&self, slot: u16) -> impl Future<Output = Step<Option<u32>>> + Send;

    /// Returns the number of processes that sleep until this slot is 0.
    fn sleepers(&self, slot: u16) -> impl Future<Output = Step<u32>> + Send;

    /// Returns the time of the last array.
    fn changed_at(&self) -> impl Future<Output = Step<SystemTime>> + Send;

    /// Returns the pid of the calling process.
    fn own_pid(&self) -> u32;

    /// Checks, after this process has claimed the object, that the namespace still uses this kernel.
    fn check_claim(&self) -> Step<()> {
        Ok(())
    }

    /// Returns the error for a step that can fail only if a foreign program writes to the set.
    fn corrupted(&self, operation: &'static str) -> Fault;
}

/// The service that a set belongs to, by its digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Unclaimed,
    This,
    Other,
}

/// The set of one service.
pub(crate) struct Set<A: SemArray> {
    array: A,
    digests: (Digest, Digest),
    holder: HolderSlot,
    /// Requires that the set names this service.
    owner: OpList,
    /// `true` if the set was read when it named this service. That never changes.
    claimed: AtomicBool,
    /// The array of the first release.
    release: OnceLock<Release<A>>,
}

/// The array that releases a reference.
struct Release<A: SemArray> {
    operation: &'static str,
    holder: u16,
    array: A::Prepared,
}

/// The array that joins one instance again.
pub(crate) struct Rejoin<A: SemArray> {
    supervised: Supervised,
    holder: u16,
    array: A::Prepared,
}

impl<A: SemArray> Set<A> {
    pub(crate) fn new(array: A, key: &ServiceKey) -> Self {
        let digests = key.digests();
        let mut values = [0; slot::COUNT as usize];
        pack(&mut values, slot::NAMESPACE, digests.0.bits().into());
        pack(&mut values, slot::NAME, digests.1.bits().into());
        Self {
            array,
            digests,
            holder: HolderSlot::default(),
            owner: OpList::requiring(&values, OWNER_SLOTS),
            claimed: AtomicBool::new(false),
            release: OnceLock::new(),
        }
    }

    pub(crate) fn array(&self) -> &A {
        &self.array
    }

    /// Notes which holder slot is free, from values that were read anyway.
    pub(crate) fn note_free_slot(&self, values: &Values) {
        self.holder.note_free_slot(values, || self.array.own_pid());
    }

    pub(crate) fn owner_of(&self, values: &Values) -> Owner {
        match digests_in(values) {
            (0, 0) => Owner::Unclaimed,
            (space, name) if (space, name) == self.digest_bits() => {
                self.claimed.store(true, Ordering::Relaxed);
                Owner::This
            }
            _ => Owner::Other,
        }
    }

    fn decoded(&self, values: &Values) -> Step<Snapshot> {
        let owner = self.owner_of(values);
        if owner == Owner::Other {
            // The set belonged to this service when it was opened. A kernel reuses the id of a removed set after some
            // millions of other sets, so the id now names another set.
            return Err(Fault::Removed);
        }
        Ok(decode(values, owner == Owner::This))
    }

    fn digest_bits(&self) -> (u128, u128) {
        (self.digests.0.bits().into(), self.digests.1.bits().into())
    }

    async fn try_once(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        self.array.operate(operation, ops, Wait::No).await
    }

    /// Performs a step with the operations on a holder slot.
    ///
    /// In a set that names this service, the array itself checks that. This costs less than the call that reads the
    /// key of the set.
    async fn try_named(&self, operation: &'static str, ops: &[Op], name: &[Op]) -> Step<bool> {
        if self.claimed.load(Ordering::Relaxed) && self.array.has_long_arrays() {
            let array = self.prepare_own(ops, name);
            return self.array.operate_on_own(operation, &array).await;
        }
        let ops = OpList::concat([ops, name]);
        self.try_once(operation, ops.ops()).await
    }

    /// Returns the array of a step that checks by itself whether the set names this service.
    fn prepare_own(&self, ops: &[Op], name: &[Op]) -> A::Prepared {
        let ops = OpList::concat([ops, self.owner.ops(), name]);
        self.array.prepare(ops.ops())
    }

    /// Performs a step that cannot fail, because this process holds the lock or a reference.
    async fn expect_done(&self, operation: &'static str, ops: &[Op]) -> Step<()> {
        if self.try_once(operation, ops).await? {
            Ok(())
        } else {
            Err(self.array.corrupted(operation))
        }
    }

    /// Changes slots to new values in *one* array.
    ///
    /// With one `SETVAL` for each slot, another process could read a partly written identity, or find one
    /// after a death. And `SETVAL` makes the kernel clear the undo values of all processes for the slot.
    async fn write(
        &self,
        operation: &'static str,
        change: impl FnOnce(&mut Values) + Send,
        lock: Lock,
    ) -> Step<()> {
        let before = self.array.values().await?;
        let mut after = before;
        change(&mut after);
        let list = OpList::between(&before, &after, lock);
        if list.ops().is_empty() {
            return Ok(());
        }
        self.expect_done(operation, list.ops()).await
    }
}

impl<A: SemArray> Object for Set<A> {
    type Rejoin = Rejoin<A>;

    async fn snapshot(&self) -> Step<Snapshot> {
        let values = self.array.values().await?;
        self.note_free_slot(&values);
        self.decoded(&values)
    }

    async fn join(&self, supervised: Supervised) -> Step<bool> {
        self.take_reference(JOIN_STEP, join_ops(supervised)).await
    }

    /// One array joins and checks owner and instance, so it needs neither a read of the set nor the check of its key.
    async fn rejoin(
        &self,
        instance: &Instance,
        generation: u16,
        supervised: Supervised,
        kept: &OnceLock<Rejoin<A>>,
    ) -> Step<bool> {
        // A client without a name reads the set at each join, to find a free one.
        let holder = self.holder.first_choice(|| self.array.own_pid());
        let (Some(holder), true) = (holder, self.array.has_long_arrays()) else {
            return Ok(false);
        };
        let prepare = || Rejoin {
            supervised,
            holder,
            array: self.prepare_rejoin(instance, generation, supervised, holder),
        };
        let rejoin = kept.get_or_init(prepare);
        let joined = match rejoin.supervised == supervised && rejoin.holder == holder {
            true => self.array.operate_on_own(JOIN_STEP, &rejoin.array).await?,
            false => {
                self.array
                    .operate_on_own(JOIN_STEP, &prepare().array)
                    .await?
            }
        };
        if joined {
            self.holder.take(holder);
        }
        Ok(joined)
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

    async fn wait_tree_exited(&self) -> Step<()> {
        let operation = "wait for the exit of the service's processes";
        self.array
            .operate(operation, &WAIT_TREE_EXITED, Wait::Yes)
            .await
            .map(drop)
    }

    async fn try_enter(&self) -> Step<bool> {
        self.take_reference("take the lock and a reference", &ENTER)
            .await
    }

    async fn try_lock(&self) -> Step<bool> {
        self.try_once("take the lock", &LOCK).await
    }

    async fn claim(&self) -> Step<()> {
        let (space, name) = self.digest_bits();
        let claim = |values: &mut Values| {
            pack(values, slot::NAMESPACE, space);
            pack(values, slot::NAME, name);
        };
        self.write("claim the set", claim, Lock::Keep).await?;
        self.array.check_claim()
    }

    async fn announce(&self, limit: Duration) -> Step<()> {
        let (space, name) = self.digest_bits();
        let before = self.array.values().await?;
        let mut after = before;
        pack(&mut after, slot::NAMESPACE, space);
        pack(&mut after, slot::NAME, name);
        pack_limit(&mut after, limit);
        let list = OpList::between(&before, &after, Lock::Keep);
        let list = list.touching(ANNOUNCED, &after);
        self.expect_done("announce the transition", list.ops())
            .await?;
        match self.owner_of(&before) {
            Owner::Unclaimed => self.array.check_claim(),
            Owner::This | Owner::Other => Ok(()),
        }
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
        self.release_reference("release the lock and the reference", &ABANDON)
            .await
    }

    async fn leave(&self) -> Step<bool> {
        self.release_reference("leave the service", &LEAVE).await
    }

    async fn leave_last(&self) -> Step<bool> {
        self.release_reference("leave the service as the last client", &LEAVE_LAST)
            .await
    }

    async fn leave_to_supervisor(&self) -> Step<bool> {
        self.release_reference("leave the service to its supervisor", &LEAVE_TO_SUPERVISOR)
            .await
    }

    async fn leave_pinned(&self) -> Step<bool> {
        self.release_reference("leave the pinned service", &LEAVE_PINNED)
            .await
    }

    async fn pin(&self) -> Step<()> {
        self.try_once("pin the service", &PIN).await.map(drop)
    }

    async fn unpin(&self) -> Step<bool> {
        self.try_once("unpin the service", &UNPIN).await
    }

    async fn drop_reference(&self) -> Step<()> {
        let operation = "release the reference";
        if self.release_reference(operation, &DROP_REFERENCE).await? {
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
        // Subtract `from`, require 0, and add `to`: the array succeeds only if the count is exactly `from`. Its undo
        // value is the difference, which is what this process takes or releases.
        if from > 0 {
            ops.push(undo(slot::REFS, -to_delta(from)));
        }
        ops.push(op(slot::REFS, 0));
        if to > 0 {
            ops.push(undo(slot::REFS, to_delta(to)));
        }
        self.try_once("change the count", &ops).await
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
        self.inspect_consistently().await
    }
}

const JOIN_STEP: &str = "join the service";

fn join_ops(supervised: Supervised) -> &'static [Op] {
    match supervised {
        Supervised::Yes => &JOIN_SUPERVISED,
        Supervised::No => &JOIN,
    }
}

fn to_delta(count: u32) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

impl<A: SemArray> Set<A> {
    /// Takes a reference, and a holder slot if one is free.
    async fn take_reference(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        let mut next = self.holder.first_choice(|| self.array.own_pid());
        for _ in 0..TRIES {
            let Some(choice) = next else {
                break;
            };
            let name = [op(choice, 0), undo(choice, 1)];
            if self.try_named(operation, ops, &name).await? {
                self.holder.take(choice);
                return Ok(true);
            }
            // Either a condition of the step does not hold, or another process has the slot. The kernel does
            // not report the reason. Without the check below, a join could fail because of a holder slot.
            let values = self.array.values().await?;
            if !is_possible(ops, &values) {
                return Ok(false);
            }
            next = free_slot(&values, choice);
        }
        self.try_once(operation, ops).await
    }

    /// Releases a reference, and the holder slot that was taken with it.
    async fn release_reference(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        let held = self.holder.held.load(Ordering::Relaxed);
        if held == 0 {
            return self.try_once(operation, ops).await;
        }
        let name = [undo(held, -1)];
        let is_released = match self.prepared_release(operation, ops, held) {
            Some(array) => self.array.operate_on_own(operation, array).await?,
            None => self.try_named(operation, ops, &name).await?,
        };
        if is_released {
            self.holder.held.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        if self.array.values().await?[held as usize] > 0 {
            return Ok(false);
        }
        // A foreign program has set the slot to 0. The reference can still be released without the slot.
        self.holder.held.store(0, Ordering::Relaxed);
        self.try_once(operation, ops).await
    }

    /// Returns the array of a release, if it is that of the first release of this object.
    fn prepared_release(
        &self,
        operation: &'static str,
        ops: &[Op],
        holder: u16,
    ) -> Option<&A::Prepared> {
        if !self.claimed.load(Ordering::Relaxed) || !self.array.has_long_arrays() {
            return None;
        }
        let release = self.release.get_or_init(|| Release {
            operation,
            holder,
            array: self.prepare_own(ops, &[undo(holder, -1)]),
        });
        let is_same = release.operation == operation && release.holder == holder;
        is_same.then_some(&release.array)
    }

    /// Returns the array that joins this instance, if the set is that of this service and has this instance.
    fn prepare_rejoin(
        &self,
        instance: &Instance,
        generation: u16,
        supervised: Supervised,
        holder: u16,
    ) -> A::Prepared {
        let mut values = [0; slot::COUNT as usize];
        encode(&mut values, Some(instance), generation);
        let ops = OpList::concat([
            join_ops(supervised),
            self.owner.ops(),
            OpList::requiring(&values, INSTANCE_SLOTS).ops(),
            &[op(holder, 0), undo(holder, 1)],
        ]);
        self.array.prepare(ops.ops())
    }

    /// Returns the process that holds the lock in these values, or `None` if no process holds it.
    ///
    /// While a command starts, its starter and its supervisor share the lock. The supervisor took its share last, so
    /// the kernel names the supervisor for LOCK. Other processes wait for the starter, which announced the start
    /// before.
    async fn holder_of_lock(&self, values: &Values) -> Step<Option<u32>> {
        match values[slot::LOCK as usize] {
            0 => Ok(None),
            1 => self.array.last_pid(slot::LOCK).await,
            _ => self.array.last_pid(ANNOUNCED).await,
        }
    }

    async fn inspect_consistently(&self) -> Step<Inspection> {
        let mut before = self.array.values().await?;
        let mut reads = 0;
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
            reads += 1;
            if after != before && reads < READS {
                before = after;
                continue;
            }
            // If the object keeps changing, use the last read. A slot with value 0 belongs to a client that
            // has left.
            named.retain(|&(slot, _)| after[slot as usize] > 0);
            let snapshot = self.decoded(&after)?;
            let mut holders: Vec<u32> = named.iter().map(|&(_, pid)| pid).collect();
            // A client that executed another program may have acquired again, in a second slot.
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
