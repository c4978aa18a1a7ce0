//! Arrays that depend on the current values.
//!
//! They are built without allocation, because a supervisor must not allocate.

use super::layout::{Values, slot};
use super::steps::{MAX_OPS, Op, RELEASE_LOCK, RETIRE, UNLOCKED, op};
use crate::state::Ended;
use crate::state::Lock;

/// An array of up to [`MAX_OPS`] operations.
pub struct OpList {
    ops: [Op; MAX_OPS],
    length: usize,
}

impl OpList {
    fn empty() -> Self {
        Self {
            ops: [UNLOCKED; MAX_OPS],
            length: 0,
        }
    }

    /// Returns an array with more operations at its end.
    pub fn concat(ops: &[Op], more: &[Op]) -> Self {
        let mut all = Self::empty();
        ops.iter().chain(more).for_each(|&op| all.push(op));
        all
    }

    /// Returns the array by which a supervisor retires and stores the exit status of the service.
    pub fn retirement(lock: Lock, ended: Option<Ended>) -> Self {
        let mut list = Self::concat(&[RETIRE], &[]);
        if lock == Lock::Release {
            list.push(RELEASE_LOCK);
        }
        if let Some(ended) = ended {
            // EXIT is 0 here. It was cleared with the last publication of a new instance, and no other process writes
            // it while this supervisor is counted in TREE.
            list.push(op(slot::EXIT, ended.encode() as i16));
        }
        list
    }

    /// Returns the array that changes slots from some values to others.
    pub fn between(before: &Values, after: &Values, lock: Lock) -> Self {
        let mut list = Self::empty();
        for ((slot, before), after) in (0..).zip(before).zip(after) {
            let delta = *after as i16 - *before as i16;
            // A delta of 0 would mean "wait until the slot is 0".
            if delta != 0 {
                list.push(op(slot, delta));
            }
        }
        if lock == Lock::Release {
            list.push(RELEASE_LOCK);
        }
        list
    }

    /// Adds operations on this slot if there are none, so that the kernel records the process that performed
    /// the array.
    pub fn touching(mut self, touched: u16, after: &Values) -> Self {
        if !self.ops().iter().any(|op| op.slot == touched) {
            let up_and_down = match after[touched as usize] {
                0 => [op(touched, 1), op(touched, -1)],
                _ => [op(touched, -1), op(touched, 1)],
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

    pub fn ops(&self) -> &[Op] {
        self.ops.get(..self.length).unwrap_or(&self.ops)
    }
}
