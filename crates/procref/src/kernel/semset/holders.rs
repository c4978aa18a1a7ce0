//! The clients that hold a reference, as recorded by the kernel.
//!
//! The count of references does not name their holders. So a client that takes a reference also takes one of
//! the HOLDERS slots, in the same array. It releases the slot in the array that releases the reference, or by
//! dying. The kernel remembers the process that performed the last array on each slot (`GETPID` in
//! [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)). Only the client that has the slot can
//! perform such an array, because the array that takes the slot requires the value 0, and an array that fails
//! leaves no trace. So a slot with value 1 names its client while the client lives, even after `exec`. This
//! needs no file, whose content could be wrong after a crash.
//!
//! The names are for people. If all slots are taken, a client takes a reference without a slot, and the count
//! is still right.

use std::sync::atomic::{AtomicU16, Ordering};

use super::layout::{Values, slot};
use super::steps::Op;

/// The number of slots that a client tries before it takes a reference without a slot.
pub(super) const TRIES: usize = 8;

/// The maximum number of reads of a changing object to get a consistent result.
pub(super) const READS: usize = 8;

/// The slot that names this process on one set.
///
/// Only one thread of a process changes the reference at a time, so relaxed loads and stores are sufficient.
/// The slot to try next is only a hint.
#[derive(Debug, Default)]
pub(super) struct HolderSlot {
    /// The slot that this process has, or 0.
    pub(super) held: AtomicU16,
    /// The slot to try first: the last one of this process, or one that was free when the values were last
    /// read. 0 if no such slot is known, and `NONE_FREE` if no slot was free.
    next: AtomicU16,
}

const NONE_FREE: u16 = u16::MAX;

impl HolderSlot {
    /// Returns the slot to try first, or `None` if no slot was free when the values were last read.
    pub(super) fn first_choice(&self, own_pid: impl FnOnce() -> u32) -> Option<u16> {
        match self.next.load(Ordering::Relaxed) {
            0 => Some(slot_of(own_pid())),
            NONE_FREE => None,
            next => Some(next),
        }
    }

    pub(super) fn take(&self, slot: u16) {
        self.held.store(slot, Ordering::Relaxed);
        self.next.store(slot, Ordering::Relaxed);
    }

    /// Notes which slot is free, from values that were read anyway.
    ///
    /// Without this, each reference would cost two more calls while a hundred clients have all slots: one array that
    /// fails, and one call that reads why.
    pub(super) fn note_free_slot(&self, values: &Values, own_pid: impl FnOnce() -> u32) {
        if self.held.load(Ordering::Relaxed) != 0 {
            return;
        }
        let usual = match self.next.load(Ordering::Relaxed) {
            0 | NONE_FREE => slot_of(own_pid()),
            next => next,
        };
        let next = if values[usual as usize] == 0 {
            usual
        } else {
            free_slot(values, usual).unwrap_or(NONE_FREE)
        };
        self.next.store(next, Ordering::Relaxed);
    }
}

/// Returns the slot that a process tries first. Processes that are started one after another have consecutive pids,
/// and so different slots.
fn slot_of(pid: u32) -> u16 {
    let slots = u32::from(slot::HOLDERS.end - slot::HOLDERS.start);
    slot::HOLDERS.start + (pid % slots) as u16
}

/// Returns `true` if the array would succeed on these values. Another process may have changed the values
/// after they were read.
pub(super) fn is_possible(ops: &[Op], values: &Values) -> bool {
    let mut values = *values;
    ops.iter().all(|op| {
        let value = &mut values[op.slot as usize];
        if op.delta == 0 {
            return *value == 0;
        }
        match value.checked_add_signed(op.delta) {
            Some(after) => {
                *value = after;
                true
            }
            None => false,
        }
    })
}

/// Returns the first free slot after `taken`. If clients that collide at one slot all searched from the first
/// slot, they would collide again.
pub(super) fn free_slot(values: &Values, taken: u16) -> Option<u16> {
    let is_free = |slot: &u16| values[*slot as usize] == 0;
    let behind = taken + 1..slot::HOLDERS.end;
    behind.chain(slot::HOLDERS.start..taken).find(is_free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::semset::steps::op;

    #[test]
    fn step_is_possible_when_each_operation_is() {
        let mut values = [0; slot::COUNT as usize];
        let join = [op(slot::LOCK, 0), op(slot::REFS, -1), op(slot::REFS, 2)];
        assert!(!is_possible(&join, &values), "no process holds a reference");
        values[slot::REFS as usize] = 1;
        assert!(is_possible(&join, &values));
        values[slot::LOCK as usize] = 1;
        assert!(!is_possible(&join, &values), "the lock is held");
        // Each operation sees the changes of those before it.
        assert!(is_possible(
            &[op(slot::LOCK, -1), op(slot::LOCK, 0)],
            &values
        ));
    }

    #[test]
    fn holder_slot_choice_follows_the_last_read() {
        const PID: u32 = 4711;
        let own = HolderSlot::default();
        let next = || own.first_choice(|| PID);
        let mut values = [0; slot::COUNT as usize];
        own.note_free_slot(&values, || PID);
        assert_eq!(next(), Some(slot_of(PID)));
        values[slot_of(PID) as usize] = 1;
        own.note_free_slot(&values, || PID);
        assert_eq!(next(), Some(slot_of(PID) + 1));
        for slot in slot::HOLDERS {
            values[slot as usize] = 1;
        }
        own.note_free_slot(&values, || PID);
        assert_eq!(next(), None, "all slots are taken");
        values[slot::HOLDERS.start as usize] = 0;
        own.note_free_slot(&values, || PID);
        assert_eq!(next(), Some(slot::HOLDERS.start), "one slot is free");
        // The slot that this process has does not count as taken.
        own.take(slot::HOLDERS.start);
        values[slot::HOLDERS.start as usize] = 1;
        own.note_free_slot(&values, || PID);
        assert_eq!(next(), Some(slot::HOLDERS.start));
    }

    #[test]
    fn consecutive_pids_start_at_different_slots() {
        let mut slots: Vec<u16> = (4711..4811).map(slot_of).collect();
        slots.sort_unstable();
        assert_eq!(slots, slot::HOLDERS.collect::<Vec<_>>());
    }

    #[test]
    fn free_slot_is_searched_after_the_taken_one_and_wraps() {
        let mut values = [0; slot::COUNT as usize];
        let last = slot::HOLDERS.end - 1;
        assert_eq!(
            free_slot(&values, slot::HOLDERS.start),
            Some(slot::HOLDERS.start + 1)
        );
        assert_eq!(free_slot(&values, last), Some(slot::HOLDERS.start));
        for slot in slot::HOLDERS {
            values[slot as usize] = 1;
        }
        assert_eq!(free_slot(&values, last), None);
        values[slot::HOLDERS.start as usize + 3] = 0;
        assert_eq!(free_slot(&values, last), Some(slot::HOLDERS.start + 3));
    }
}
