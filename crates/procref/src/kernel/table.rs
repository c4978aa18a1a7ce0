//! The counted table: the values of one set, and the adjustments that end with their owners.
//!
//! [`SlotTable`] performs arrays of operations as semop(2) describes them. It makes no system call. Its caller
//! names the owner of each array, and reports when an owner has ended. The simulated kernel has a table for
//! each set, so the model checks this arithmetic.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::semset::{MAX_VALUE, Op, Values, Wait, slot};

/// The number of slots with an adjustment that one owner can have.
///
/// A client needs REFS, LOCK and one of HOLDERS. A supervisor needs SUPERVISOR, TREE and LOCK.
pub(crate) const MAX_ADJUSTMENTS: usize = 6;

/// The holder of adjustments: a process, or one of several roles inside of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UndoOwner {
    pub(crate) pid: u32,
    /// The start time of the process, if the table outlives processes.
    pub(crate) start: u64,
    /// 0 for the process itself.
    pub(crate) role: u16,
}

impl UndoOwner {
    /// Returns the owner for a process whose pid is not reused while the table exists.
    #[cfg(test)]
    pub(crate) fn of_pid(pid: u32) -> Self {
        Self {
            pid,
            start: 0,
            role: 0,
        }
    }
}

/// The result of an attempt to perform an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Done,
    /// `EAGAIN`.
    NotNow,
    /// The caller would sleep.
    Sleeps,
    /// `EIDRM`, `EINVAL`.
    Gone,
    /// `ERANGE`.
    OutOfRange,
}

/// The number that is added to one slot when the owner ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Adjustment {
    pub(crate) slot: u16,
    pub(crate) delta: i16,
}

/// The adjustments of one owner, in the order of their slots. None of them is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undo {
    adjustments: [Adjustment; MAX_ADJUSTMENTS],
    length: usize,
}

impl Undo {
    /// Returns `None` if the adjustments are too many, not in order, or 0.
    pub(crate) fn from_adjustments(adjustments: impl Iterator<Item = Adjustment>) -> Option<Self> {
        let mut undo = Self::default();
        for adjustment in adjustments {
            let is_next = undo
                .adjustments()
                .last()
                .is_none_or(|it| it.slot < adjustment.slot);
            if !is_next || adjustment.slot >= slot::COUNT || adjustment.delta == 0 {
                return None;
            }
            *undo.adjustments.get_mut(undo.length)? = adjustment;
            undo.length += 1;
        }
        Some(undo)
    }

    pub(crate) fn adjustments(&self) -> &[Adjustment] {
        self.adjustments
            .get(..self.length)
            .unwrap_or(&self.adjustments)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the adjustment of a slot, or 0.
    fn of(&self, slot: u16) -> i16 {
        let found = self.adjustments().iter().find(|it| it.slot == slot);
        found.map_or(0, |it| it.delta)
    }

    /// Sets the adjustment of a slot. Returns `false` if there is no room.
    fn set(&mut self, slot: u16, delta: i16) -> bool {
        let position = self.adjustments().partition_point(|it| it.slot < slot);
        let known = self.adjustments().get(position).copied();
        if known.is_some_and(|it| it.slot == slot) {
            self.adjustments[position].delta = delta;
            return true;
        }
        if self.length == MAX_ADJUSTMENTS {
            return false;
        }
        self.adjustments[position..=self.length].rotate_right(1);
        self.adjustments[position] = Adjustment { slot, delta };
        self.length += 1;
        true
    }

    /// Removes the adjustments that are 0.
    fn normalize(&mut self) {
        let mut kept = Self::default();
        for &adjustment in self.adjustments().iter().filter(|it| it.delta != 0) {
            kept.adjustments[kept.length] = adjustment;
            kept.length += 1;
        }
        *self = kept;
    }
}

impl Hash for Undo {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.adjustments().hash(state);
    }
}

/// The values of one set, the adjustments of each owner, and the last pid of each slot.
#[derive(Clone)]
pub(crate) struct SlotTable {
    values: Values,
    holders: BTreeMap<UndoOwner, Undo>,
    /// The last pid of each slot: `GETPID`.
    last: [u32; slot::COUNT as usize],
}

impl Default for SlotTable {
    fn default() -> Self {
        Self {
            values: [0; slot::COUNT as usize],
            holders: BTreeMap::new(),
            last: [0; slot::COUNT as usize],
        }
    }
}

impl Hash for SlotTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // This excludes the last pids, because they are only for messages, and no step depends on them.
        (&self.values, &self.holders).hash(state);
    }
}

impl SlotTable {
    /// Returns a table with these contents.
    pub(crate) fn restore(
        values: Values,
        last: [u32; slot::COUNT as usize],
        holders: BTreeMap<UndoOwner, Undo>,
    ) -> Self {
        Self {
            values,
            holders,
            last,
        }
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// Returns the last process that operated on a slot, or 0.
    pub(crate) fn last_pid(&self, slot: u16) -> u32 {
        self.last[slot as usize]
    }

    pub(crate) fn undo_of(&self, owner: UndoOwner) -> Undo {
        self.holders.get(&owner).copied().unwrap_or_default()
    }

    /// Performs all operations in order, or none.
    pub(crate) fn operate(&mut self, owner: UndoOwner, ops: &[Op], wait: Wait) -> Outcome {
        let (values, undo) = match self.attempt(owner, ops, wait) {
            Ok(done) => done,
            Err(outcome) => return outcome,
        };
        self.values = values;
        if undo.is_empty() {
            self.holders.remove(&owner);
        } else {
            self.holders.insert(owner, undo);
        }
        for op in ops {
            self.last[op.slot as usize] = owner.pid;
        }
        Outcome::Done
    }

    /// Returns the result that an attempt would have.
    pub(crate) fn try_out(&self, owner: UndoOwner, ops: &[Op], wait: Wait) -> Outcome {
        match self.attempt(owner, ops, wait) {
            Ok(_) => Outcome::Done,
            Err(outcome) => outcome,
        }
    }

    /// Returns the values and the owner's adjustments after all operations.
    fn attempt(&self, owner: UndoOwner, ops: &[Op], wait: Wait) -> Result<(Values, Undo), Outcome> {
        let mut values = self.values;
        let mut undo = self.undo_of(owner);
        for op in ops {
            let value = i32::from(values[op.slot as usize]);
            let after = value + i32::from(op.delta);
            let possible = if op.delta == 0 {
                value == 0
            } else {
                after >= 0
            };
            if !possible {
                return Err(match wait {
                    Wait::Yes if !op.nowait => Outcome::Sleeps,
                    _ => Outcome::NotNow,
                });
            }
            if after > MAX_VALUE.into() {
                return Err(Outcome::OutOfRange);
            }
            if op.undo {
                // As in Linux, the lower limit is -32768 and the upper limit is 32767.
                let adjusted = undo.of(op.slot).checked_sub(op.delta);
                let adjusted = adjusted.ok_or(Outcome::OutOfRange)?;
                if !undo.set(op.slot, adjusted) {
                    return Err(Outcome::OutOfRange);
                }
            }
            values[op.slot as usize] = after as u16;
        }
        undo.normalize();
        Ok((values, undo))
    }

    /// Returns the part of a slot's value that ends with the owners for which `is_one` returns `true`.
    #[cfg(test)]
    pub(crate) fn goes_with(&self, slot: u16, is_one: impl Fn(&UndoOwner) -> bool) -> i32 {
        let owners = self.holders.iter().filter(|(owner, _)| is_one(owner));
        -owners
            .map(|(_, undo)| i32::from(undo.of(slot)))
            .sum::<i32>()
    }

    /// Ends an owner: reverts its operations with `SEM_UNDO`, within the limits of a value. Returns `false` if the owner
    /// had no adjustments.
    pub(crate) fn end(&mut self, owner: UndoOwner) -> bool {
        let Some(undo) = self.holders.remove(&owner) else {
            return false;
        };
        for adjustment in undo.adjustments() {
            let value = &mut self.values[adjustment.slot as usize];
            let after = i32::from(*value) + i32::from(adjustment.delta);
            *value = after.clamp(0, MAX_VALUE.into()) as u16;
        }
        true
    }
}

/// Returns `true` if an array waits for this slot to be 0, and for no earlier operation.
pub(crate) fn sleeps_for(ops: &[Op], values: &Values, slot: u16) -> bool {
    sleeps_on(ops, values).is_some_and(|op| op.slot == slot && op.delta == 0)
}

/// Returns the first operation of an array that is not possible now.
pub(crate) fn sleeps_on(ops: &[Op], values: &Values) -> Option<Op> {
    let mut values = *values;
    for op in ops {
        let value = &mut values[op.slot as usize];
        match value.checked_add_signed(op.delta) {
            Some(after) if op.delta != 0 || after == 0 => *value = after,
            Some(_) | None => return Some(*op),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::semset::steps::{ENTER, JOIN, LEAVE, UNLOCK, op, undo};

    fn owner(pid: u32) -> UndoOwner {
        UndoOwner::of_pid(pid)
    }

    #[test]
    fn array_changes_every_slot_or_none() {
        let mut table = SlotTable::default();
        let ops = [op(slot::PIN, 1), undo(slot::REFS, 1), op(slot::LOCK, -1)];
        assert_eq!(table.operate(owner(1), &ops, Wait::No), Outcome::NotNow);
        assert_eq!(table.operate(owner(1), &ops, Wait::Yes), Outcome::Sleeps);
        assert_eq!(*table.values(), [0; slot::COUNT as usize]);
        assert_eq!(
            (table.undo_of(owner(1)), table.last_pid(slot::PIN)),
            (Undo::default(), 0)
        );
        assert_eq!(table.operate(owner(1), &ops[..2], Wait::No), Outcome::Done);
        assert_eq!(table.values()[slot::PIN as usize], 1);
        assert_eq!(table.last_pid(slot::REFS), 1);
    }

    #[test]
    fn end_reverts_only_adjustments_of_the_owner() {
        let mut table = SlotTable::default();
        let [one, other] = [1, 2].map(owner);
        assert_eq!(table.operate(one, &ENTER, Wait::No), Outcome::Done);
        assert_eq!(table.operate(one, &UNLOCK, Wait::No), Outcome::Done);
        assert_eq!(table.operate(other, &JOIN, Wait::No), Outcome::Done);
        let role = UndoOwner { role: 1, ..one };
        assert!(
            !table.end(role),
            "another role of the process holds nothing"
        );
        assert!(table.end(one));
        assert!(!table.end(one), "an owner ends once");
        assert_eq!(table.values()[slot::REFS as usize], 1);
        assert_eq!(table.operate(other, &LEAVE, Wait::No), Outcome::NotNow);
    }

    #[test]
    fn undo_has_room_for_six_slots() {
        let mut table = SlotTable::default();
        let ops: Vec<Op> = (0..7).rev().map(|slot| undo(slot, 1)).collect();
        assert_eq!(table.operate(owner(1), &ops, Wait::No), Outcome::OutOfRange);
        assert_eq!(table.operate(owner(1), &ops[1..], Wait::No), Outcome::Done);
        let undo_of_one = table.undo_of(owner(1));
        let held: Vec<u16> = undo_of_one.adjustments().iter().map(|it| it.slot).collect();
        assert_eq!(held, [0, 1, 2, 3, 4, 5], "in the order of the slots");
        let more = [undo(6, 1)];
        assert_eq!(
            table.operate(owner(1), &more, Wait::No),
            Outcome::OutOfRange
        );
        assert_eq!(
            table.operate(owner(1), &[undo(3, -1)], Wait::No),
            Outcome::Done
        );
        assert_eq!(
            table.operate(owner(1), &more, Wait::No),
            Outcome::Done,
            "a slot is free again"
        );
    }

    #[test]
    fn values_and_adjustments_stay_in_their_limits() {
        let mut table = SlotTable::default();
        let most = [op(slot::REFS, MAX_VALUE as i16)];
        assert_eq!(table.operate(owner(1), &most, Wait::No), Outcome::Done);
        let more = [op(slot::REFS, 1)];
        assert_eq!(
            table.operate(owner(1), &more, Wait::No),
            Outcome::OutOfRange
        );
        let undone = [undo(slot::REFS, -1), op(slot::REFS, 1)];
        assert_eq!(table.operate(owner(1), &undone, Wait::No), Outcome::Done);
        assert!(table.end(owner(1)));
        assert_eq!(
            table.values()[slot::REFS as usize],
            MAX_VALUE,
            "a value is clamped"
        );
        // The adjustment of a slot has 16 bits with a sign.
        let up = [
            undo(slot::PIN, MAX_VALUE as i16),
            op(slot::PIN, -(MAX_VALUE as i16)),
        ];
        assert_eq!(table.operate(owner(1), &up, Wait::No), Outcome::Done);
        assert_eq!(table.operate(owner(1), &up, Wait::No), Outcome::OutOfRange);
    }
}
