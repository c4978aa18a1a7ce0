//! Who holds a reference, told by the kernel itself.
//!
//! The count says how many, not who. So a client that takes a reference also takes one of the HOLDERS
//! slots, in the same array, and gives it back in the array that gives the reference back, or by dying.
//! The kernel remembers for each slot which process performed an array with it last (`GETPID` in
//! [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html)), and nobody but the one who has
//! it can: the array demands that it is free. An array that is refused leaves no mark. So a slot that is
//! 1 names its client for as long as that lives, `exec` included, and needs no file that a crash would
//! make wrong.
//!
//! Names are for people. Where all slots are taken, references go without, and the count is right
//! all the same.

use std::sync::atomic::{AtomicU16, Ordering};

use super::layout::{Values, slot};
use super::steps::Op;

/// How many slots are tried before a reference goes without.
pub(super) const TRIES: usize = 8;

/// How often an object that changes while it is looked at is looked at again.
pub(super) const LOOKS: usize = 8;

/// The slot that names this process on one set; 0 for none. The changes of a process's reference come
/// one after the other, so plain loads and stores do; what to try next is a hint, whoever wrote it last.
#[derive(Debug, Default)]
pub(super) struct HolderSlot {
    /// Taken now.
    pub(super) held: AtomicU16,
    /// What to try first, if anything is known: taken last, and so most likely free the next time, too,
    /// or seen to be free. `NONE_FREE`: nothing was.
    next: AtomicU16,
}

const NONE_FREE: u16 = u16::MAX;

impl HolderSlot {
    /// `None`: there was no slot to be had when somebody last looked.
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

    /// Sees in passing which slots are free. Where a hundred clients have them all, every reference would
    /// cost two calls more without that: one that is refused, and one to find out why.
    pub(super) fn learn(&self, values: &Values, own_pid: impl FnOnce() -> u32) {
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

/// Processes that are started in a row have pids in a row, and do not meet.
fn slot_of(pid: u32) -> u16 {
    let slots = u32::from(slot::HOLDERS.end - slot::HOLDERS.start);
    slot::HOLDERS.start + (pid % slots) as u16
}

/// Whether an array could be performed on these values.
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

/// A slot that nobody has, looked for from the one after `taken` on: clients that meet at one slot and
/// all take the first free one would meet again.
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
    fn a_step_is_possible_as_the_kernel_sees_it() {
        let mut values = [0; slot::COUNT as usize];
        let join = [op(slot::LOCK, 0), op(slot::REFS, -1), op(slot::REFS, 2)];
        assert!(!is_possible(&join, &values), "nobody is there");
        values[slot::REFS as usize] = 1;
        assert!(is_possible(&join, &values));
        values[slot::LOCK as usize] = 1;
        assert!(!is_possible(&join, &values), "it is locked");
        // One operation sees what those before it did.
        assert!(is_possible(
            &[op(slot::LOCK, -1), op(slot::LOCK, 0)],
            &values
        ));
    }

    #[test]
    fn what_was_seen_decides_what_is_tried_next() {
        const PID: u32 = 4711;
        let own = HolderSlot::default();
        let next = || own.first_choice(|| PID);
        let mut values = [0; slot::COUNT as usize];
        own.learn(&values, || PID);
        assert_eq!(next(), Some(slot_of(PID)));
        values[slot_of(PID) as usize] = 1;
        own.learn(&values, || PID);
        assert_eq!(next(), Some(slot_of(PID) + 1));
        for slot in slot::HOLDERS {
            values[slot as usize] = 1;
        }
        own.learn(&values, || PID);
        assert_eq!(next(), None, "all are taken");
        values[slot::HOLDERS.start as usize] = 0;
        own.learn(&values, || PID);
        assert_eq!(next(), Some(slot::HOLDERS.start), "one has become free");
        // Its own, while it holds it, is not somebody else's.
        own.take(slot::HOLDERS.start);
        values[slot::HOLDERS.start as usize] = 1;
        own.learn(&values, || PID);
        assert_eq!(next(), Some(slot::HOLDERS.start));
    }

    #[test]
    fn processes_started_in_a_row_have_slots_of_their_own() {
        let mut slots: Vec<u16> = (4711..4811).map(slot_of).collect();
        slots.sort_unstable();
        assert_eq!(slots, slot::HOLDERS.collect::<Vec<_>>());
    }

    #[test]
    fn a_free_slot_is_found_from_the_taken_one_on_and_round() {
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
