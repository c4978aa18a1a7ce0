//! The steps as arrays of operations on one System V semaphore set.
//!
//! What each slot holds and which operations make up each step stands here, for every kernel that
//! has such sets: the real one and the model. A set starts as all zeros, which means "nobody,
//! unlocked, no instance", so a new one needs no initialisation, and there is no moment between
//! creating and initialising it in which somebody could see half of it
//! ([semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html) warns of that race).

use std::future::Future;

use super::{Instance, Lock, MAX_GENERATION, Object, Snapshot, Step, Supervised};
use crate::name::{Digest, ServiceKey};
use crate::process::Identity;

/// The highest value of a slot (`SEMVMX`): 15 bits.
pub(super) const MAX_VALUE: u16 = 0x7fff;
const BITS: u32 = 15;
/// No array is longer: the instance's slots, and the lock.
pub(super) const MAX_OPS: usize = 16;

/// Where each thing is kept.
pub(super) mod slot {
    use std::ops::Range;

    pub(crate) const REFS: u16 = 0;
    pub(crate) const LOCK: u16 = 1;
    pub(crate) const SUPERVISOR: u16 = 2;
    // 3: TREE
    pub(crate) const PIN: u16 = 4;
    pub(crate) const GENERATION: u16 = 5;
    pub(crate) const SPACE: Range<u16> = 6..10;
    pub(crate) const NAME: Range<u16> = 10..14;
    pub(crate) const PID: Range<u16> = 14..16;
    pub(crate) const START: Range<u16> = 16..21;
    pub(crate) const PORT: Range<u16> = 21..23;
    pub(crate) const FLAGS: u16 = 23;
    pub(crate) const LINGER: Range<u16> = 24..26;
    pub(crate) const COUNT: u16 = 26;
}

mod flag {
    pub(super) const READY: u16 = 1;
    pub(super) const STOPPING: u16 = 1 << 1;
    // 1 << 2: COMMAND
    pub(super) const KEEP_ORPHAN: u16 = 1 << 3;
    pub(super) const HOSTED: u16 = 1 << 4;
    pub(super) const HAS_METADATA: u16 = 1 << 5;
}

/// All slots of a set.
pub(crate) type Values = [u16; slot::COUNT as usize];

/// One operation of an array; `delta` 0 means "must be 0".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(super) slot: u16,
    pub(super) delta: i16,
    /// The kernel takes it back when the process ends (`SEM_UNDO`).
    pub(super) undo: bool,
}

/// Whether an array that cannot be performed now is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Yes,
}

const fn op(slot: u16, delta: i16) -> Op {
    Op {
        slot,
        delta,
        undo: false,
    }
}

const fn undone(slot: u16, delta: i16) -> Op {
    Op {
        slot,
        delta,
        undo: true,
    }
}

const UNLOCKED: Op = op(slot::LOCK, 0);
const TAKE_LOCK: Op = undone(slot::LOCK, 1);
const RELEASE_LOCK: Op = undone(slot::LOCK, -1);
const ONE_MORE: Op = undone(slot::REFS, 1);
const ONE_LESS: Op = undone(slot::REFS, -1);

/// −1 fails where nobody holds a reference: only then does +2 make one more of them.
const JOIN: [Op; 3] = [UNLOCKED, undone(slot::REFS, -1), undone(slot::REFS, 2)];
/// The same, if a supervisor lives.
const JOIN_SUPERVISED: [Op; 5] = [
    UNLOCKED,
    undone(slot::REFS, -1),
    undone(slot::REFS, 2),
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
const LEAVE_TO_SUPERVISOR: [Op; 3] = [ONE_LESS, op(slot::SUPERVISOR, -1), op(slot::SUPERVISOR, 1)];
const LEAVE_PINNED: [Op; 3] = [ONE_LESS, op(slot::PIN, -1), op(slot::PIN, 1)];
/// Not undone: it is to outlive who says so.
const PIN: [Op; 2] = [op(slot::PIN, 0), op(slot::PIN, 1)];
const UNPIN: [Op; 1] = [op(slot::PIN, -1)];
/// A supervisor's: it counts itself, sleeps until nobody is left and owns the lock on waking. After a
/// bare wait for zero the count may have changed again.
pub(super) const SUPERVISE: [Op; 1] = [undone(slot::SUPERVISOR, 1)];
pub(super) const WAIT_IDLE: [Op; 4] = [op(slot::REFS, 0), op(slot::PIN, 0), UNLOCKED, TAKE_LOCK];
/// Sleeps until somebody is there again.
pub(super) const WAIT_CLIENT: [Op; 2] = [op(slot::REFS, -1), op(slot::REFS, 1)];
const WAIT_UNLOCKED: [Op; 1] = [UNLOCKED];
const ENTER: [Op; 3] = [UNLOCKED, TAKE_LOCK, ONE_MORE];
const LOCK: [Op; 2] = [UNLOCKED, TAKE_LOCK];
pub(super) const UNLOCK: [Op; 1] = [RELEASE_LOCK];
/// −2 fails where ours is the last reference.
const LEAVE: [Op; 2] = [undone(slot::REFS, -2), ONE_MORE];
const ABANDON: [Op; 3] = [undone(slot::REFS, -2), ONE_MORE, RELEASE_LOCK];
const LEAVE_LAST: [Op; 5] = [
    op(slot::PIN, 0),
    UNLOCKED,
    TAKE_LOCK,
    ONE_LESS,
    op(slot::REFS, 0),
];
/// Can never be performed, because PIN is 0 or 1, so it ends with the set alone. A wait for GENERATION to be
/// 0 would end at once in the middle of a first start.
const WAIT_REMOVED: [Op; 1] = [op(slot::PIN, -2)];
const DROP_REFERENCE: [Op; 1] = [ONE_LESS];

/// The primitive calls on one set.
pub(crate) trait Array: Send + Sync + 'static {
    /// Performs all operations at once, or none of them: then it sleeps until they can be performed,
    /// or answers false at once.
    fn operate(
        &self,
        operation: &'static str,
        ops: &[Op],
        wait: Wait,
    ) -> impl Future<Output = Step<bool>> + Send;

    fn values(&self) -> impl Future<Output = Step<Values>> + Send;

    fn remove(&self) -> impl Future<Output = Step<()>> + Send;

    /// The process that changed the slot last.
    fn last_pid(&self, slot: u16) -> impl Future<Output = Step<Option<u32>>> + Send;

    /// What to say about a step that cannot fail unless somebody else writes to the set.
    fn meddled(&self, operation: &'static str) -> super::Fault;
}

/// Whose object a set is, as far as its digests tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    This,
    Another,
}

/// One service's set.
pub(crate) struct Set<A> {
    array: A,
    digests: (Digest, Digest),
}

impl<A: Array> Set<A> {
    pub(super) fn new(array: A, key: &ServiceKey) -> Self {
        Self {
            array,
            digests: key.digests(),
        }
    }

    pub(super) fn array(&self) -> &A {
        &self.array
    }

    pub(super) fn owner_of(&self, values: &Values) -> Owner {
        match (unpack(values, slot::SPACE), unpack(values, slot::NAME)) {
            (0, 0) => Owner::Nobody,
            (space, name) if (space, name) == self.packed() => Owner::This,
            _ => Owner::Another,
        }
    }

    fn packed(&self) -> (u128, u128) {
        (self.digests.0.bits().into(), self.digests.1.bits().into())
    }

    async fn now(&self, operation: &'static str, ops: &[Op]) -> Step<bool> {
        self.array.operate(operation, ops, Wait::No).await
    }

    /// A step that the lock, or a reference, makes certain.
    async fn certainly(&self, operation: &'static str, ops: &[Op]) -> Step<()> {
        if self.now(operation, ops).await? {
            Ok(())
        } else {
            Err(self.array.meddled(operation))
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
        let changes = Changes::between(&before, &after, lock);
        if changes.ops().is_empty() {
            return Ok(());
        }
        self.certainly(operation, changes.ops()).await
    }
}

/// The one array that brings slots from some values to others. Without allocation: a supervisor may
/// not allocate.
pub(super) struct Changes {
    ops: [Op; MAX_OPS],
    length: usize,
}

impl Changes {
    pub(super) fn between(before: &Values, after: &Values, lock: Lock) -> Self {
        let mut changes = Self {
            ops: [UNLOCKED; MAX_OPS],
            length: 0,
        };
        for ((slot, before), after) in (0..).zip(before).zip(after) {
            let delta = *after as i16 - *before as i16;
            // A zero delta would mean "wait until it is zero".
            if delta != 0 {
                changes.push(op(slot, delta));
            }
        }
        if lock == Lock::Release {
            changes.push(RELEASE_LOCK);
        }
        changes
    }

    fn push(&mut self, op: Op) {
        if let Some(next) = self.ops.get_mut(self.length) {
            *next = op;
            self.length += 1;
        }
    }

    pub(super) fn ops(&self) -> &[Op] {
        self.ops.get(..self.length).unwrap_or(&self.ops)
    }
}

impl<A: Array> Object for Set<A> {
    async fn snapshot(&self) -> Step<Snapshot> {
        let values = self.array.values().await?;
        let owner = self.owner_of(&values);
        if owner == Owner::Another {
            // It was ours when it was opened. Kernels hand out the ids of removed sets again, after
            // some millions of others: somebody else's set has this one's id by now.
            return Err(super::Fault::Removed);
        }
        Ok(decode(&values, owner == Owner::This))
    }

    async fn join(&self, supervised: Supervised) -> Step<bool> {
        let ops: &[Op] = match supervised {
            Supervised::Yes => &JOIN_SUPERVISED,
            Supervised::No => &JOIN,
        };
        self.now("join the service", ops).await
    }

    async fn wait_unlocked(&self) -> Step<()> {
        let operation = "wait for another process's transition";
        self.array
            .operate(operation, &WAIT_UNLOCKED, Wait::Yes)
            .await
            .map(drop)
    }

    async fn try_enter(&self) -> Step<bool> {
        self.now("take the lock and a reference", &ENTER).await
    }

    async fn try_lock(&self) -> Step<bool> {
        self.now("take the lock", &LOCK).await
    }

    async fn claim(&self) -> Step<()> {
        let (space, name) = self.packed();
        let claim = |values: &mut Values| {
            pack(values, slot::SPACE, space);
            pack(values, slot::NAME, name);
        };
        self.write("claim the set", claim, Lock::Keep).await
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
        self.certainly("release the lock", &UNLOCK).await
    }

    async fn abandon(&self) -> Step<bool> {
        self.now("give back the lock and the reference", &ABANDON)
            .await
    }

    async fn leave(&self) -> Step<bool> {
        self.now("leave the service", &LEAVE).await
    }

    async fn leave_last(&self) -> Step<bool> {
        self.now("leave the service as the last", &LEAVE_LAST).await
    }

    async fn leave_to_supervisor(&self) -> Step<bool> {
        self.now("leave the service to its supervisor", &LEAVE_TO_SUPERVISOR)
            .await
    }

    async fn leave_pinned(&self) -> Step<bool> {
        self.now("leave the pinned service", &LEAVE_PINNED).await
    }

    async fn pin(&self) -> Step<()> {
        self.now("pin the service", &PIN).await.map(drop)
    }

    async fn unpin(&self) -> Step<bool> {
        self.now("unpin the service", &UNPIN).await
    }

    async fn drop_reference(&self) -> Step<()> {
        self.certainly("give back the reference", &DROP_REFERENCE)
            .await
    }

    async fn recount(&self, from: u32, to: u32, unlocked: bool) -> Step<bool> {
        let mut ops = Vec::with_capacity(4);
        if unlocked {
            ops.push(UNLOCKED);
        }
        // Down to zero, be sure that it is zero, and up: exactly `from`, or nothing happens. The
        // undo of the array is the difference, which is all this process takes or gives back.
        if from > 0 {
            ops.push(undone(slot::REFS, -to_delta(from)));
        }
        ops.push(op(slot::REFS, 0));
        if to > 0 {
            ops.push(undone(slot::REFS, to_delta(to)));
        }
        self.now("count", &ops).await
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
        self.array.last_pid(slot::LOCK).await
    }
}

fn to_delta(count: u32) -> i16 {
    i16::try_from(count).unwrap_or(i16::MAX)
}

/// Writes a number into slots of 15 bits, lowest first.
fn pack(values: &mut Values, slots: std::ops::Range<u16>, number: u128) {
    for (index, slot) in slots.enumerate() {
        let bits = number >> (index as u32 * BITS) & u128::from(MAX_VALUE);
        values[slot as usize] = bits as u16;
    }
}

fn unpack(values: &Values, slots: std::ops::Range<u16>) -> u128 {
    slots.enumerate().fold(0, |number, (index, slot)| {
        number | u128::from(values[slot as usize]) << (index as u32 * BITS)
    })
}

pub(super) fn encode(values: &mut Values, instance: Option<&Instance>, generation: u16) {
    debug_assert!(generation <= MAX_GENERATION);
    values[slot::GENERATION as usize] = generation;
    let flags = instance.map_or(0, |instance| {
        let set = |on: bool, flag: u16| if on { flag } else { 0 };
        set(instance.ready, flag::READY)
            | set(instance.stopping, flag::STOPPING)
            | set(instance.hosted, flag::HOSTED)
            | set(instance.has_metadata, flag::HAS_METADATA)
            | set(instance.keep_orphan, flag::KEEP_ORPHAN)
    });
    values[slot::FLAGS as usize] = flags;
    let identity = instance.map_or(Identity { pid: 0, start: 0 }, |instance| instance.identity);
    pack(values, slot::PID, identity.pid.into());
    pack(values, slot::START, identity.start.into());
    pack(values, slot::PORT, instance.map_or(0, |it| it.port).into());
    pack(
        values,
        slot::LINGER,
        instance.map_or(0, |it| it.linger_ms).into(),
    );
}

pub(super) fn decode(values: &Values, claimed: bool) -> Snapshot {
    let flags = values[slot::FLAGS as usize];
    let has = |flag: u16| flags & flag != 0;
    // What the slots can hold beyond these types nobody writes; cutting it off is harmless, because
    // an identity that is nobody's is dead.
    let pid = unpack(values, slot::PID) as u32;
    let instance = (pid != 0 || flags != 0).then(|| Instance {
        identity: Identity {
            pid,
            start: unpack(values, slot::START) as u64,
        },
        port: unpack(values, slot::PORT) as u16,
        ready: has(flag::READY),
        stopping: has(flag::STOPPING),
        hosted: has(flag::HOSTED),
        has_metadata: has(flag::HAS_METADATA),
        keep_orphan: has(flag::KEEP_ORPHAN),
        linger_ms: unpack(values, slot::LINGER) as u32,
    });
    Snapshot {
        clients: values[slot::REFS as usize].into(),
        locked: values[slot::LOCK as usize] > 0,
        supervised: values[slot::SUPERVISOR as usize] > 0,
        pinned: values[slot::PIN as usize] > 0,
        generation: values[slot::GENERATION as usize],
        claimed,
        instance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::MAX_LINGER_MS;

    #[test]
    fn what_is_published_is_read_back() {
        let instance = Instance {
            identity: Identity {
                pid: 4_194_303,
                start: u64::MAX,
            },
            port: u16::MAX,
            ready: true,
            stopping: false,
            hosted: false,
            has_metadata: true,
            keep_orphan: true,
            linger_ms: MAX_LINGER_MS,
        };
        let mut values = [0; slot::COUNT as usize];
        encode(&mut values, Some(&instance), 7);
        assert!(values.iter().all(|&value| value <= MAX_VALUE));
        let read = decode(&values, true);
        assert_eq!((read.instance, read.generation), (Some(instance), 7));
        encode(&mut values, None, 7);
        assert_eq!(decode(&values, true).instance, None);
    }

    #[test]
    fn generations_wrap_to_one() {
        let at = |generation| {
            let mut values = [0; slot::COUNT as usize];
            encode(&mut values, None, generation);
            decode(&values, true).next_generation()
        };
        assert_eq!([at(0), at(1), at(MAX_GENERATION)], [1, 2, 1]);
    }
}
