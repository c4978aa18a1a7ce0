//! The steps: each is one array of operations.

use super::layout::slot;

/// No array is longer: the instance's slots, those of the limit, and the lock.
pub(crate) const MAX_OPS: usize = 18;

/// One operation of an array; `delta` 0 means "must be 0".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    pub(crate) slot: u16,
    pub(crate) delta: i16,
    /// The kernel takes it back when the process ends (`SEM_UNDO`).
    pub(crate) undo: bool,
    /// Where it cannot be performed, the array is refused even if it may wait for its others.
    pub(crate) nowait: bool,
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
        nowait: false,
    }
}

pub(crate) const fn undo(slot: u16, delta: i16) -> Op {
    Op {
        slot,
        delta,
        undo: true,
        nowait: false,
    }
}

const fn nowait(op: Op) -> Op {
    Op { nowait: true, ..op }
}

pub(super) const UNLOCKED: Op = op(slot::LOCK, 0);
pub(super) const TAKE_LOCK: Op = undo(slot::LOCK, 1);
pub(super) const RELEASE_LOCK: Op = undo(slot::LOCK, -1);
pub(super) const ONE_MORE: Op = undo(slot::REFS, 1);
pub(super) const ONE_LESS: Op = undo(slot::REFS, -1);

/// −1 fails where nobody holds a reference: only then does +2 make one more of them.
pub(super) const JOIN: [Op; 3] = [UNLOCKED, undo(slot::REFS, -1), undo(slot::REFS, 2)];
/// The same, if a supervisor lives.
pub(super) const JOIN_SUPERVISED: [Op; 5] = [
    UNLOCKED,
    undo(slot::REFS, -1),
    undo(slot::REFS, 2),
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
pub(super) const LEAVE_TO_SUPERVISOR: [Op; 3] =
    [ONE_LESS, op(slot::SUPERVISOR, -1), op(slot::SUPERVISOR, 1)];
pub(super) const UNLOCK_TO_SUPERVISOR: [Op; 3] = [
    RELEASE_LOCK,
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
pub(super) const LEAVE_PINNED: [Op; 3] = [ONE_LESS, op(slot::PIN, -1), op(slot::PIN, 1)];
/// Not undo: it is to outlive who says so.
pub(super) const PIN: [Op; 2] = [op(slot::PIN, 0), op(slot::PIN, 1)];
pub(super) const UNPIN: [Op; 1] = [op(slot::PIN, -1)];
/// A supervisor's: it counts itself, sleeps until nobody is left and owns the lock on waking. After a
/// bare wait for zero the count may have changed again. Joins change SUPERVISOR, too, to see that it is
/// not 0; SUPERVISOR_PID nobody else touches, so the kernel tells by it who the supervisor is.
pub(crate) const SUPERVISE: [Op; 2] = [undo(slot::SUPERVISOR, 1), op(slot::SUPERVISOR_PID, 0)];
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
    nowait(undo(slot::LOCK, -1)),
    nowait(undo(slot::LOCK, 2)),
    op(slot::TREE, 0),
    undo(slot::TREE, 1),
    undo(slot::SUPERVISOR, 1),
    op(slot::SUPERVISOR_PID, 0),
];
/// Sleeps until the lock, shared so far, is its own alone: the starter has let go of it, or died.
pub(crate) const WAIT_ALONE: [Op; 3] = [op(slot::LOCK, -1), op(slot::LOCK, 0), op(slot::LOCK, 1)];
/// A supervisor whose processes have ended goes, and leaves the service to its holders, or, if there is
/// none, to whom it is pinned for. In one step with seeing them: gone before the last of them, it would
/// leave a set that nobody removes.
pub(super) const RESIGN_TO: [[Op; 2]; 2] = [
    [op(slot::REFS, -1), op(slot::REFS, 1)],
    [op(slot::PIN, -1), op(slot::PIN, 1)],
];
/// Takes back [`SUPERVISE_TREE`].
pub(crate) const STEP_DOWN: [Op; 3] = [
    undo(slot::SUPERVISOR, -1),
    undo(slot::TREE, -1),
    RELEASE_LOCK,
];
pub(super) const RESIGN: [Op; 2] = [undo(slot::SUPERVISOR, -1), undo(slot::TREE, -1)];
/// Sleeps until somebody is there again.
pub(crate) const WAIT_CLIENT: [Op; 2] = [op(slot::REFS, -1), op(slot::REFS, 1)];
pub(super) const WAIT_UNLOCKED: [Op; 1] = [UNLOCKED];
pub(super) const ENTER: [Op; 3] = [UNLOCKED, TAKE_LOCK, ONE_MORE];
pub(super) const LOCK: [Op; 2] = [UNLOCKED, TAKE_LOCK];
pub(crate) const UNLOCK: [Op; 1] = [RELEASE_LOCK];
/// −2 fails where ours is the last reference.
pub(super) const LEAVE: [Op; 2] = [undo(slot::REFS, -2), ONE_MORE];
pub(super) const ABANDON: [Op; 3] = [undo(slot::REFS, -2), ONE_MORE, RELEASE_LOCK];
pub(super) const LEAVE_LAST: [Op; 5] = [
    op(slot::PIN, 0),
    UNLOCKED,
    TAKE_LOCK,
    ONE_LESS,
    op(slot::REFS, 0),
];
/// The slot that names the process that has announced the transition. Every announcement touches it.
pub(super) const ANNOUNCED: u16 = slot::LIMIT.start;
/// Can never be performed, because PIN is 0 or 1, so it ends with the set alone. A wait for GENERATION to be
/// 0 would end at once in the middle of a first start.
pub(super) const WAIT_REMOVED: [Op; 1] = [op(slot::PIN, -2)];
pub(super) const DROP_REFERENCE: [Op; 1] = [ONE_LESS];
