//! Arrays that depend on the current values.
//!
//! They are built without allocation, because a supervisor must not allocate.

use super::layout::{Values, slot};
use super::steps::{LONGEST, Op, RELEASE_LOCK, RETIRE, op};
use crate::state::Ended;
use crate::state::Lock;

/// An array of up to [`LONGEST`] operations.
pub struct OpList {
    ops: [Op; LONGEST],
    length: usize,
}

impl OpList {
    fn empty() -> Self {
        Self {
            // All zeros, which are written fastest.
            ops: [op(0, 0); LONGEST],
            length: 0,
        }
    }

    /// Returns the array of all these operations.
    pub fn concat<const PARTS: usize>(parts: [&[Op]; PARTS]) -> Self {
        let mut all = Self::empty();
        for part in parts {
            all.extend(part);
        }
        all
    }

    /// Returns an array that requires that the slots have these values, and changes nothing.
    pub fn requiring(values: &Values, slots: impl IntoIterator<Item = u16>) -> Self {
        let mut list = Self::empty();
        for slot in slots {
            let value = values[slot as usize] as i16;
            // The first operation is refused if the slot is lower, and the second one if it is higher.
            match value {
                0 => list.push(op(slot, 0)),
                _ => list.extend(&[op(slot, -value), op(slot, 0), op(slot, value)]),
            }
        }
        list
    }

    /// Returns the array by which a supervisor retires and stores the exit status of the service.
    pub fn retirement(lock: Lock, ended: Option<Ended>) -> Self {
        let mut list = Self::concat([&[RETIRE]]);
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
        self.extend(&[op]);
    }

    fn extend(&mut self, ops: &[Op]) {
        let end = self.length + ops.len();
        if let Some(room) = self.ops.get_mut(self.length..end) {
            room.copy_from_slice(ops);
            self.length = end;
        }
    }

    pub fn ops(&self) -> &[Op] {
        self.ops.get(..self.length).unwrap_or(&self.ops)
    }
}
