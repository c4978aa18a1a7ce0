//! The steps as arrays of operations on one System V semaphore set.
//!
//! What each slot holds and which operations make up each step stands here, for every kernel that
//! has such sets: the real one and the model. A set starts as all zeros, which means "nobody,
//! unlocked, no instance", so a new one needs no initialisation, and there is no moment between
//! creating and initialising it in which somebody could see half of it
//! ([semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html) warns of that race).

use std::future::Future;
use std::time::{Duration, SystemTime};

use super::{
    Ended, Inspection, Instance, Lock, MAX_GENERATION, Object, Snapshot, Step, Supervised,
    decode_limit, encode_limit,
};
use crate::name::{Digest, ServiceKey};
use crate::process::Identity;

mod holders;
mod op_list;
pub(crate) mod signal_safe;

use holders::Name;
pub(super) use op_list::Changes;

/// The highest value of a slot (`SEMVMX`): 15 bits.
pub(crate) const MAX_VALUE: u16 = 0x7fff;
const BITS: u32 = 15;
/// No array is longer: the instance's slots, those of the limit, and the lock.
pub(super) const MAX_OPS: usize = 18;

/// Where each thing is kept.
pub(crate) mod slot {
    use std::ops::Range;

    pub(crate) const REFS: u16 = 0;
    pub(crate) const LOCK: u16 = 1;
    pub(crate) const SUPERVISOR: u16 = 2;
    pub(crate) const TREE: u16 = 3;
    pub(crate) const PIN: u16 = 4;
    pub(crate) const GENERATION: u16 = 5;
    pub(crate) const SPACE: Range<u16> = 6..10;
    pub(crate) const NAME: Range<u16> = 10..14;
    pub(crate) const PID: Range<u16> = 14..16;
    pub(crate) const START: Range<u16> = 16..21;
    pub(crate) const PORT: Range<u16> = 21..23;
    pub(crate) const FLAGS: u16 = 23;
    pub(crate) const LINGER: Range<u16> = 24..26;
    pub(crate) const EXIT: u16 = 26;
    /// Always 0. Whoever asked last whether it is, is the supervisor.
    pub(crate) const WATCH: u16 = 27;
    /// How long the transition takes at most, in milliseconds.
    pub(crate) const LIMIT: Range<u16> = 28..30;
    /// Each 1 while a client has it: see `who`.
    pub(crate) const WHO: Range<u16> = 30..130;
    pub(crate) const COUNT: u16 = 130;
}

mod flag {
    pub(super) const READY: u16 = 1;
    pub(super) const STOPPING: u16 = 1 << 1;
    pub(super) const COMMAND: u16 = 1 << 2;
    pub(super) const KEEP_ORPHAN: u16 = 1 << 3;
    pub(super) const HOSTED: u16 = 1 << 4;
    pub(super) const HAS_METADATA: u16 = 1 << 5;

    pub(super) const ALL: u16 = (1 << 6) - 1;
}

/// All slots of a set.
pub(crate) type Values = [u16; slot::COUNT as usize];

/// One operation of an array; `delta` 0 means "must be 0".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    pub(crate) slot: u16,
    pub(crate) delta: i16,
    /// The kernel takes it back when the process ends (`SEM_UNDO`).
    pub(crate) undo: bool,
    /// Where it cannot be performed, the array is refused even if it may wait for its others.
    pub(crate) at_once: bool,
}

/// Whether an array that cannot be performed now is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Yes,
}

pub(crate) const fn op(slot: u16, delta: i16) -> Op {
    Op {
        slot,
        delta,
        undo: false,
        at_once: false,
    }
}

pub(crate) const fn undone(slot: u16, delta: i16) -> Op {
    Op {
        slot,
        delta,
        undo: true,
        at_once: false,
    }
}

const fn at_once(op: Op) -> Op {
    Op {
        at_once: true,
        ..op
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
const UNLOCK_TO_SUPERVISOR: [Op; 3] = [
    RELEASE_LOCK,
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
const LEAVE_PINNED: [Op; 3] = [ONE_LESS, op(slot::PIN, -1), op(slot::PIN, 1)];
/// Not undone: it is to outlive who says so.
const PIN: [Op; 2] = [op(slot::PIN, 0), op(slot::PIN, 1)];
const UNPIN: [Op; 1] = [op(slot::PIN, -1)];
/// A supervisor's: it counts itself, sleeps until nobody is left and owns the lock on waking. After a
/// bare wait for zero the count may have changed again. Joins change SUPERVISOR, too, to see that it is
/// not 0; WATCH nobody else touches, so the kernel tells by it who the supervisor is.
pub(crate) const SUPERVISE: [Op; 2] = [undone(slot::SUPERVISOR, 1), op(slot::WATCH, 0)];
pub(crate) const WAIT_IDLE: [Op; 4] = [op(slot::REFS, 0), op(slot::PIN, 0), UNLOCKED, TAKE_LOCK];
/// A supervisor's that becomes the parent of the service: it sleeps until an older one's processes are
/// gone, and shares the lock with its starter, so that the death of either alone does not open it.
///
/// A lock that nobody holds is not waited for: then there is no starter to serve. It is asked for before
/// TREE, and so again at every change of the set, for as long as this sleeps. Asked for behind it, it would
/// be looked at when the older processes are gone: of a supervisor that comes late, when its starter is
/// dead and somebody else's service runs, that is the end of that service, and until then everything that
/// the dead starter had open stays open, to the harm of whoever reads from its pipes.
pub(crate) const SUPERVISE_TREE: [Op; 6] = [
    at_once(undone(slot::LOCK, -1)),
    at_once(undone(slot::LOCK, 2)),
    op(slot::TREE, 0),
    undone(slot::TREE, 1),
    undone(slot::SUPERVISOR, 1),
    op(slot::WATCH, 0),
];
/// Sleeps until the lock, shared so far, is its own alone: the starter has let go of it, or died.
pub(crate) const WAIT_ALONE: [Op; 3] = [op(slot::LOCK, -1), op(slot::LOCK, 0), op(slot::LOCK, 1)];
/// A supervisor whose processes have ended goes, and leaves the service to its holders, or, if there is
/// none, to whom it is pinned for. In one step with seeing them: gone before the last of them, it would
/// leave a set that nobody removes.
const RESIGN_TO: [[Op; 2]; 2] = [
    [op(slot::REFS, -1), op(slot::REFS, 1)],
    [op(slot::PIN, -1), op(slot::PIN, 1)],
];
/// Takes back [`SUPERVISE_TREE`].
pub(crate) const STEP_DOWN: [Op; 3] = [
    undone(slot::SUPERVISOR, -1),
    undone(slot::TREE, -1),
    RELEASE_LOCK,
];
const RESIGN: [Op; 2] = [undone(slot::SUPERVISOR, -1), undone(slot::TREE, -1)];
/// Sleeps until somebody is there again.
pub(crate) const WAIT_CLIENT: [Op; 2] = [op(slot::REFS, -1), op(slot::REFS, 1)];
const WAIT_UNLOCKED: [Op; 1] = [UNLOCKED];
const ENTER: [Op; 3] = [UNLOCKED, TAKE_LOCK, ONE_MORE];
const LOCK: [Op; 2] = [UNLOCKED, TAKE_LOCK];
pub(crate) const UNLOCK: [Op; 1] = [RELEASE_LOCK];
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
/// The slot that names the process that has announced the transition. Every announcement touches it.
const ANNOUNCED: u16 = slot::LIMIT.start;
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
    name: Name,
}

impl<A: Array> Set<A> {
    pub(crate) fn new(array: A, key: &ServiceKey) -> Self {
        Self {
            array,
            digests: key.digests(),
            name: Name::default(),
        }
    }

    pub(crate) fn array(&self) -> &A {
        &self.array
    }

    /// Sees in passing which names are to be had.
    pub(super) fn learn(&self, values: &Values) {
        self.name.learn(values, || self.array.own_pid());
    }

    pub(super) fn owner_of(&self, values: &Values) -> Owner {
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
            return Err(super::Fault::Removed);
        }
        Ok(decode(values, owner == Owner::This))
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

impl<A: Array> Object for Set<A> {
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

    async fn announce(&self, limit: Duration) -> Step<()> {
        let (space, name) = self.packed();
        let before = self.array.values().await?;
        let mut after = before;
        pack(&mut after, slot::SPACE, space);
        pack(&mut after, slot::NAME, name);
        pack_limit(&mut after, limit);
        let changes = Changes::between(&before, &after, Lock::Keep);
        let changes = changes.marked(ANNOUNCED, &after);
        self.certainly("announce the transition", changes.ops())
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
        self.certainly("release the lock", &UNLOCK).await
    }

    async fn unlock_to_supervisor(&self) -> Step<bool> {
        let operation = "leave the lock to the supervisor";
        self.now(operation, &UNLOCK_TO_SUPERVISOR).await
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
        self.now("pin the service", &PIN).await.map(drop)
    }

    async fn unpin(&self) -> Step<bool> {
        self.now("unpin the service", &UNPIN).await
    }

    async fn drop_reference(&self) -> Step<()> {
        let operation = "give back the reference";
        if self.give(operation, &DROP_REFERENCE).await? {
            Ok(())
        } else {
            Err(self.array.meddled(operation))
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
        let values = self.array.values().await?;
        self.holder_of_lock(&values).await
    }

    async fn supervisor(&self) -> Step<Option<u32>> {
        match self.array.last_pid(slot::WATCH).await? {
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

/// The digests of namespace and name as a set tells them; 0 for a blank one.
pub(super) fn digests_in(values: &Values) -> (u128, u128) {
    (unpack(values, slot::SPACE), unpack(values, slot::NAME))
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

fn pack_limit(values: &mut Values, limit: Duration) {
    pack(values, slot::LIMIT, encode_limit(limit).into());
}

/// Of an instance that is being stopped, and how long that takes at most.
fn encode_stopping(values: &mut Values, instance: &Instance, generation: u16, limit: Duration) {
    let stopping = Instance {
        stopping: true,
        ..*instance
    };
    encode(values, Some(&stopping), generation);
    pack_limit(values, limit);
}

pub(crate) fn encode(values: &mut Values, instance: Option<&Instance>, generation: u16) {
    debug_assert!(generation <= MAX_GENERATION);
    values[slot::GENERATION as usize] = generation;
    let flags = instance.map_or(0, |instance| {
        let set = |on: bool, flag: u16| if on { flag } else { 0 };
        set(instance.ready, flag::READY)
            | set(instance.stopping, flag::STOPPING)
            | set(instance.hosted, flag::HOSTED)
            | set(instance.has_metadata, flag::HAS_METADATA)
            | set(instance.keep_orphan, flag::KEEP_ORPHAN)
            | set(instance.command, flag::COMMAND)
    });
    values[slot::FLAGS as usize] = flags;
    if instance.is_some_and(|instance| !instance.ready && !instance.stopping) {
        // A new one.
        values[slot::EXIT as usize] = 0;
    }
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

pub(crate) fn decode(values: &Values, claimed: bool) -> Snapshot {
    // Others nobody of this layout writes: by themselves they make no instance.
    let flags = values[slot::FLAGS as usize] & flag::ALL;
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
        command: has(flag::COMMAND),
        linger_ms: unpack(values, slot::LINGER) as u32,
    });
    Snapshot {
        clients: values[slot::REFS as usize].into(),
        locked: values[slot::LOCK as usize] > 0,
        supervised: values[slot::SUPERVISOR as usize] > 0,
        tree: values[slot::TREE as usize] > 0,
        pinned: values[slot::PIN as usize] > 0,
        generation: values[slot::GENERATION as usize],
        claimed,
        instance,
        ended: Ended::decode(values[slot::EXIT as usize]),
        announced: decode_limit(unpack(values, slot::LIMIT) as u32),
    }
}

impl Ended {
    /// 0 is left for "not known".
    fn encode(self) -> u16 {
        match self {
            Self::Exited(code) => 1 + u16::from(code),
            Self::Killed(signal) => SIGNALLED + u16::from(signal),
        }
    }

    fn decode(value: u16) -> Option<Self> {
        match value {
            0 => None,
            1..SIGNALLED => Some(Self::Exited((value - 1) as u8)),
            _ => Some(Self::Killed((value - SIGNALLED) as u8)),
        }
    }
}

/// Where the numbers of signals begin in EXIT, beyond those of exit codes.
const SIGNALLED: u16 = 512;

#[cfg(test)]
mod tests;
