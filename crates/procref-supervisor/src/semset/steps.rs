//! The steps: each is one array of operations.
//!
//! The kernel performs the operations of an array in order and atomically: all or none. Each operation sees
//! the changes of the operations before it. An operation with a delta of 0 requires that the slot is 0. An
//! operation with a negative delta requires that the slot does not become negative.

use super::layout::{MAX_VALUE, slot};

/// The length of the longest array that every kernel performs: the slots of an instance, those of the limit, and the
/// lock.
pub const MAX_OPS: usize = 18;

/// The length of the longest array of all: a join that checks owner and instance of the set. A kernel may refuse arrays
/// that are longer than [`MAX_OPS`].
pub const LONGEST: usize = 28;

/// One operation of an array. A delta of 0 means "must be 0".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    pub slot: u16,
    pub delta: i16,
    /// `true` if the kernel reverts the operation when the process ends (`SEM_UNDO`).
    pub undo: bool,
    /// `true` if the array fails instead of waiting for this operation (`IPC_NOWAIT`).
    pub nowait: bool,
}

/// The behavior if an array cannot be performed immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    No,
    Yes,
}

pub const fn op(slot: u16, delta: i16) -> Op {
    Op {
        slot,
        delta,
        undo: false,
        nowait: false,
    }
}

pub const fn undo(slot: u16, delta: i16) -> Op {
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

pub const UNLOCKED: Op = op(slot::LOCK, 0);
pub const TAKE_LOCK: Op = undo(slot::LOCK, 1);
pub const RELEASE_LOCK: Op = undo(slot::LOCK, -1);
pub const TAKE_REFERENCE: Op = undo(slot::REFS, 1);
pub const RELEASE_REFERENCE: Op = undo(slot::REFS, -1);

/// −1 fails if no process holds a reference. If it succeeds, +2 leaves one more reference.
pub const JOIN: [Op; 3] = [UNLOCKED, undo(slot::REFS, -1), undo(slot::REFS, 2)];
/// Like [`JOIN`], and requires a live supervisor.
pub const JOIN_SUPERVISED: [Op; 5] = [
    UNLOCKED,
    undo(slot::REFS, -1),
    undo(slot::REFS, 2),
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
pub const LEAVE_TO_SUPERVISOR: [Op; 3] = [
    RELEASE_REFERENCE,
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
pub const UNLOCK_TO_SUPERVISOR: [Op; 3] = [
    RELEASE_LOCK,
    op(slot::SUPERVISOR, -1),
    op(slot::SUPERVISOR, 1),
];
pub const LEAVE_PINNED: [Op; 3] = [RELEASE_REFERENCE, op(slot::PIN, -1), op(slot::PIN, 1)];
/// Without `SEM_UNDO`, because the pin must outlive the process that sets it.
pub const PIN: [Op; 2] = [op(slot::PIN, 0), op(slot::PIN, 1)];
pub const UNPIN: [Op; 1] = [op(slot::PIN, -1)];
/// Registers a supervisor.
///
/// Joins also operate on SUPERVISOR, to require that it is not 0. Only supervisors operate on SUPERVISOR_PID, so the
/// kernel remembers the supervisor's pid there.
pub const SUPERVISE: [Op; 2] = [undo(slot::SUPERVISOR, 1), op(slot::SUPERVISOR_PID, 0)];
/// Sleeps until the service is idle, and takes the lock.
///
/// The array also takes the lock, because the count could change again after a plain wait for zero.
pub const WAIT_IDLE: [Op; 4] = [op(slot::REFS, 0), op(slot::PIN, 0), UNLOCKED, TAKE_LOCK];
/// Sleeps like [`WAIT_IDLE`], and fails with `ERANGE` if there is another supervisor.
///
/// A slot holds at most [`MAX_VALUE`], so the first operation is possible only while SUPERVISOR is 1. The kernel checks it
/// again at every change of the set. So a retired supervisor wakes, and exits, when its service is started again. With
/// [`WAIT_IDLE`] it would stay until the service is idle: one more process for each death of a service that clients hold.
pub const WAIT_IDLE_RETIRED: [Op; 6] = [
    op(slot::SUPERVISOR, MAX_VALUE as i16 - 1),
    op(slot::SUPERVISOR, 1 - MAX_VALUE as i16),
    op(slot::REFS, 0),
    op(slot::PIN, 0),
    UNLOCKED,
    TAKE_LOCK,
];
/// Unregisters a supervisor, if there is another one.
///
/// The check and the change are one step. A retired supervisor that exited after a check alone would still be registered
/// for a moment. If the other supervisor stepped down in that moment, it would leave the cleanup to this one.
pub const UNREGISTER: [Op; 2] = [undo(slot::SUPERVISOR, -2), undo(slot::SUPERVISOR, 1)];
/// Registers a supervisor that becomes the parent of the service. It sleeps until the processes of an earlier
/// supervisor have exited. It shares the lock with its starter, so that the death of one of the two does not release
/// the lock.
///
/// If no process holds the lock, the array fails immediately, because in that case the starter has died. The
/// lock's operations come before that of TREE, so the kernel checks the lock again at every change of the set
/// while the supervisor sleeps. If they came after TREE, the kernel would check the lock only when the
/// earlier processes have exited. A supervisor whose starter has died could then wait until another service
/// ends. During that time, it would keep the dead starter's descriptors open, and readers of its pipes would
/// not get EOF.
pub const SUPERVISE_TREE: [Op; 6] = [
    nowait(undo(slot::LOCK, -1)),
    nowait(undo(slot::LOCK, 2)),
    op(slot::TREE, 0),
    undo(slot::TREE, 1),
    undo(slot::SUPERVISOR, 1),
    op(slot::SUPERVISOR_PID, 0),
];
/// Sleeps until this process is the only holder of the lock, because its starter has released it or died.
pub const WAIT_ALONE: [Op; 3] = [op(slot::LOCK, -1), op(slot::LOCK, 0), op(slot::LOCK, 1)];
/// Releases TREE after all processes of the service have exited. The supervisor stays registered.
pub const RETIRE: Op = undo(slot::TREE, -1);
/// Sleeps until the processes of the service have exited, if a supervisor is their parent.
pub const WAIT_TREE_EXITED: [Op; 1] = [op(slot::TREE, 0)];
/// Sleeps until a process holds a reference.
pub const WAIT_CLIENT: [Op; 2] = [op(slot::REFS, -1), op(slot::REFS, 1)];
pub const WAIT_UNLOCKED: [Op; 1] = [UNLOCKED];
pub const ENTER: [Op; 3] = [UNLOCKED, TAKE_LOCK, TAKE_REFERENCE];
pub const LOCK: [Op; 2] = [UNLOCKED, TAKE_LOCK];
pub const UNLOCK: [Op; 1] = [RELEASE_LOCK];
/// −2 fails if this process holds the last reference.
pub const LEAVE: [Op; 2] = [undo(slot::REFS, -2), TAKE_REFERENCE];
pub const ABANDON: [Op; 3] = [undo(slot::REFS, -2), TAKE_REFERENCE, RELEASE_LOCK];
pub const LEAVE_LAST: [Op; 5] = [
    op(slot::PIN, 0),
    UNLOCKED,
    TAKE_LOCK,
    RELEASE_REFERENCE,
    op(slot::REFS, 0),
];
/// The slot whose last pid is the process that announced the transition. Every announcement operates on this slot.
pub const ANNOUNCED: u16 = slot::LIMIT.start;
/// This array never succeeds, because PIN is 0 or 1. So the sleep ends only with the removal of the set. A
/// wait for GENERATION to be 0 would end immediately during a first start.
pub const WAIT_REMOVED: [Op; 1] = [op(slot::PIN, -2)];
pub const DROP_REFERENCE: [Op; 1] = [RELEASE_REFERENCE];
