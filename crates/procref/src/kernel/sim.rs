//! A kernel in memory, for the model: System V semaphore sets as the manual describes them.
//!
//! [`Table`] is the kernel, without processes: a [`SlotTable`] for each set. Its caller passes the process that
//! makes a call, and reports the death of a process. [`SimArray`] runs the engine's own steps on the table, at the moments that its
//! [`TableCalls`] chooses.
//!
//! The table permits more orders than Linux in one respect. Linux performs a sleeper's array at the moment
//! when it becomes possible. In this kernel, a sleeper may continue at any later moment, until another
//! process makes its array impossible again. The order of Linux is one of these.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use super::semset::{Op, SemArray, Set, Values, Wait};
use super::table::{Outcome, SlotTable, UndoOwner};
use super::{Fault, Kernel, Missing, Step};
use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;

/// The id of a set, as returned by `semget`. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SetId(u32);

/// All sets of the machine.
#[derive(Clone, Default)]
pub(crate) struct Table {
    sets: BTreeMap<SetId, SlotTable>,
    keys: BTreeMap<i32, SetId>,
    next: u32,
}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The state does not include the next id, because it is never compared.
        for set in &self.sets {
            set.hash(state);
        }
        self.keys.hash(state);
    }
}

impl Table {
    /// Returns the set with this key.
    pub(crate) fn open(&mut self, key: i32, missing: Missing) -> Option<SetId> {
        if let Some(&id) = self.keys.get(&key) {
            return Some(id);
        }
        if missing == Missing::Ignore {
            return None;
        }
        self.next += 1;
        let id = SetId(self.next);
        self.sets.insert(id, SlotTable::default());
        self.keys.insert(key, id);
        Some(id)
    }

    pub(crate) fn operate(&mut self, pid: u32, id: SetId, ops: &[Op], wait: Wait) -> Outcome {
        match self.sets.get_mut(&id) {
            Some(set) => set.operate(UndoOwner::of_pid(pid), ops, wait),
            None => Outcome::Gone,
        }
    }

    /// Returns the result that an attempt would have.
    pub(crate) fn try_out(&self, pid: u32, id: SetId, ops: &[Op], wait: Wait) -> Outcome {
        match self.sets.get(&id) {
            Some(set) => set.try_out(UndoOwner::of_pid(pid), ops, wait),
            None => Outcome::Gone,
        }
    }

    pub(crate) fn values(&self, id: SetId) -> Option<&Values> {
        self.sets.get(&id).map(SlotTable::values)
    }

    pub(crate) fn last_pid(&self, id: SetId, slot: u16) -> Option<u32> {
        self.sets.get(&id).map(|set| set.last_pid(slot))
    }

    /// Returns `false` if the set was removed before.
    pub(crate) fn remove(&mut self, id: SetId) -> bool {
        self.keys.retain(|_, other| *other != id);
        self.sets.remove(&id).is_some()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SetId> {
        self.sets.keys().copied()
    }

    /// Returns the part of a slot's value that ends with the processes for which `is_one` returns `true`.
    pub(crate) fn goes_with(&self, id: SetId, slot: u16, is_one: impl Fn(u32) -> bool) -> i32 {
        let set = self.sets.get(&id);
        set.map_or(0, |set| set.goes_with(slot, |owner| is_one(owner.pid)))
    }

    /// Ends a process: reverts its operations with `SEM_UNDO`.
    pub(crate) fn end_process(&mut self, pid: u32) {
        for set in self.sets.values_mut() {
            set.end(UndoOwner::of_pid(pid));
        }
    }
}

/// The calls of a process on the table. An implementation chooses the moment of each call.
pub(crate) trait TableCalls: Clone + Send + Sync + 'static {
    fn pid(&self) -> u32;

    fn open(&self, key: i32, missing: Missing) -> impl Future<Output = Option<SetId>> + Send;

    /// Never returns [`Outcome::Sleeps`]: the future is pending instead.
    fn operate(
        &self,
        set: SetId,
        operation: &'static str,
        ops: &[Op],
        wait: Wait,
    ) -> impl Future<Output = Outcome> + Send;

    fn values(&self, set: SetId) -> impl Future<Output = Option<Values>> + Send;

    /// Returns `false` if the set was removed before.
    fn remove(&self, set: SetId) -> impl Future<Output = bool> + Send;

    fn last_pid(&self, set: SetId, slot: u16) -> impl Future<Output = Option<u32>> + Send;

    /// Returns `None` if the set was removed.
    fn sleepers(&self, set: SetId, slot: u16) -> impl Future<Output = Option<u32>> + Send;
}

/// The kernel as one process uses it.
#[derive(Clone)]
pub(crate) struct SimKernel<C>(pub(crate) C);

impl<C: TableCalls> Kernel for SimKernel<C> {
    type Object = Set<SimArray<C>>;

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<Self::Object>> {
        let id = self.0.open(key.short(), missing).await;
        Ok(id.map(|id| {
            let array = SimArray {
                id,
                calls: self.0.clone(),
                service: key.name().into(),
            };
            Set::new(array, key)
        }))
    }

    fn survey(&self, _: &Namespace) -> Result<Vec<Digest>> {
        Ok(Vec::new())
    }

    fn object_name(key: &ServiceKey) -> String {
        format!("0x{:08x} in memory", key.short())
    }
}

/// An open set in memory.
pub(crate) struct SimArray<C> {
    id: SetId,
    calls: C,
    service: Arc<str>,
}

impl<C: TableCalls> SimArray<C> {
    pub(crate) fn id(&self) -> SetId {
        self.id
    }

    fn refused(&self, operation: &'static str, advice: &str) -> Fault {
        Fault::Refused(Error::Kernel {
            service: self.service.as_ref().to_owned(),
            operation,
            advice: advice.to_owned(),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }
}

impl<C: TableCalls> SemArray for SimArray<C> {
    type Prepared = Vec<Op>;

    fn prepare(&self, ops: &[Op]) -> Vec<Op> {
        ops.to_vec()
    }

    async fn operate_on_own(&self, operation: &'static str, ops: &Vec<Op>) -> Step<bool> {
        self.operate(operation, ops, Wait::No).await
    }

    async fn operate(&self, operation: &'static str, ops: &[Op], wait: Wait) -> Step<bool> {
        match self.calls.operate(self.id, operation, ops, wait).await {
            Outcome::Done => Ok(true),
            Outcome::NotNow | Outcome::Sleeps => Ok(false),
            Outcome::Gone => Err(Fault::Removed),
            Outcome::OutOfRange => Err(self.refused(operation, "out of range")),
        }
    }

    fn has_long_arrays(&self) -> bool {
        true
    }

    async fn values(&self) -> Step<Values> {
        self.calls.values(self.id).await.ok_or(Fault::Removed)
    }

    async fn remove(&self) -> Step<()> {
        let removed = self.calls.remove(self.id).await;
        removed.then_some(()).ok_or(Fault::Removed)
    }

    async fn last_pid(&self, slot: u16) -> Step<Option<u32>> {
        let pid = self.calls.last_pid(self.id, slot).await;
        Ok(Some(pid.ok_or(Fault::Removed)?).filter(|&pid| pid != 0))
    }

    async fn sleepers(&self, slot: u16) -> Step<u32> {
        self.calls
            .sleepers(self.id, slot)
            .await
            .ok_or(Fault::Removed)
    }

    async fn changed_at(&self) -> Step<SystemTime> {
        Ok(SystemTime::UNIX_EPOCH)
    }

    fn own_pid(&self) -> u32 {
        self.calls.pid()
    }

    fn corrupted(&self, operation: &'static str) -> Fault {
        self.refused(operation, "another program wrote to the set")
    }
}
