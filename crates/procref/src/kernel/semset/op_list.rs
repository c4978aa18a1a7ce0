//! Arrays put together as needed. Without allocation: a supervisor may not allocate.

use super::layout::{Values, slot};
use super::steps::{MAX_OPS, Op, RELEASE_LOCK, RESIGN, UNLOCKED, op};
use crate::kernel::Lock;
use crate::kernel::state::Ended;

/// One array of up to [`MAX_OPS`] operations.
pub(crate) struct OpList {
    ops: [Op; MAX_OPS],
    length: usize,
}

impl OpList {
    fn none() -> Self {
        Self {
            ops: [UNLOCKED; MAX_OPS],
            length: 0,
        }
    }

    /// An array with more operations at its end.
    pub(super) fn and(ops: &[Op], more: &[Op]) -> Self {
        let mut all = Self::none();
        ops.iter().chain(more).for_each(|&op| all.push(op));
        all
    }

    /// The array by which a supervisor resigns, and tells how the service ended.
    pub(crate) fn resignation(to: [Op; 2], lock: Lock, ended: Option<Ended>) -> Self {
        let mut changes = Self::and(&to, &RESIGN);
        if lock == Lock::Release {
            changes.push(RELEASE_LOCK);
        }
        if let Some(ended) = ended {
            // From zero: nobody else writes it while this supervisor's TREE stands, and it was zeroed
            // with the instance.
            changes.push(op(slot::EXIT, ended.encode() as i16));
        }
        changes
    }

    /// The one that brings slots from some values to others.
    pub(crate) fn between(before: &Values, after: &Values, lock: Lock) -> Self {
        let mut changes = Self::none();
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

    /// The same, with an operation on this slot, so that the kernel remembers which process performed it.
    pub(super) fn marked(mut self, marked: u16, after: &Values) -> Self {
        if !self.ops().iter().any(|op| op.slot == marked) {
            let up_and_down = match after[marked as usize] {
                0 => [op(marked, 1), op(marked, -1)],
                _ => [op(marked, -1), op(marked, 1)],
            };
            up_and_down.into_iter().for_each(|op| self.push(op));
        }
        self
    }

    fn push(&mut self, op: Op) {
        if let Some(next) = self.ops.get_mut(self.length) {
            *next = op;
            self.length += 1;
        }
    }

    pub(crate) fn ops(&self) -> &[Op] {
        self.ops.get(..self.length).unwrap_or(&self.ops)
    }
}
