//! The object of a keeper, and the arrays of supervisors that sleep until they can be performed.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::shared::now;
use crate::kernel::counted::ledger::{Ledger, Session, Stale};
use crate::kernel::counted::state::Memory;
use crate::kernel::semset::{Op, Wait};
use crate::kernel::table::{Outcome, sleeps_for};

/// The ledger, and the arrays of supervisors that sleep.
///
/// Each change retries these arrays in the order of their arrival, before another thread can change the object. A
/// semaphore set does the same. If each supervisor retried its own array after it woke up, the order would be that of
/// the scheduler, and a client could take the lock in between.
pub(super) struct Object<M> {
    ledger: Ledger<M>,
    sleeping: BTreeMap<Ticket, Sleeping>,
    next: Ticket,
}

/// The position of an array in the order of arrival.
pub(super) type Ticket = u64;

/// The result of an array.
pub(super) type Performed = Result<Outcome, Stale>;

struct Sleeping {
    session: Session,
    seq: u64,
    ops: Vec<Op>,
    /// `None` while the array cannot be performed.
    performed: Option<Performed>,
}

impl<M: Memory> Object<M> {
    pub(super) fn new(ledger: Ledger<M>) -> Self {
        Self {
            ledger,
            sleeping: BTreeMap::new(),
            next: 0,
        }
    }

    /// Changes the object, and performs the sleeping arrays that are possible after that.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Ledger<M>) -> T) -> T {
        let changed = change(&mut self.ledger);
        // One of them may be possible only after a later one.
        while self.perform_sleeping() {}
        changed
    }

    /// Returns `true` if an array was performed.
    fn perform_sleeping(&mut self) -> bool {
        let mut is_changed = false;
        let sleeping = self.sleeping.values_mut();
        for it in sleeping.filter(|it| it.performed.is_none()) {
            let array = (&it.ops[..], Wait::Yes);
            let performed = self.ledger.operate(it.session, it.seq, array, now());
            if performed != Ok(Outcome::Sleeps) {
                is_changed |= performed == Ok(Outcome::Done);
                it.performed = Some(performed);
            }
        }
        is_changed
    }

    /// Adds an array that cannot be performed now.
    pub(super) fn sleep(&mut self, session: Session, seq: u64, ops: &[Op]) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let sleeping = Sleeping {
            session,
            seq,
            ops: ops.to_vec(),
            performed: None,
        };
        self.sleeping.insert(ticket, sleeping);
        ticket
    }

    /// Returns the number of arrays that sleep until this slot is 0.
    pub(super) fn sleepers(&self, slot: u16) -> usize {
        let asleep = self.sleeping.values().filter(|it| it.performed.is_none());
        asleep
            .filter(|it| sleeps_for(&it.ops, self.ledger.values(), slot))
            .count()
    }

    pub(super) fn is_asleep(&self, ticket: Ticket) -> bool {
        let sleeping = self.sleeping.get(&ticket);
        sleeping.is_some_and(|it| it.performed.is_none())
    }

    /// Removes an array, and returns its result. `None` if it was not performed, and never will be.
    pub(super) fn wake(&mut self, ticket: Ticket) -> Option<Performed> {
        self.sleeping.remove(&ticket)?.performed
    }
}

/// Other changes than those by [`change`](Object::change) would not perform the sleeping arrays.
impl<M> Deref for Object<M> {
    type Target = Ledger<M>;

    fn deref(&self) -> &Ledger<M> {
        &self.ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::counted::state::{MIN_WORDS, State};
    use crate::kernel::table::UndoOwner;
    use crate::process::Identity;

    const LOCK: u16 = 1;
    const OTHER: u16 = 2;

    fn op(slot: u16, delta: i16) -> Op {
        Op {
            slot,
            delta,
            undo: true,
            nowait: false,
        }
    }

    fn session(pid: u32) -> Session {
        Session {
            owner: UndoOwner {
                pid,
                start: 1,
                role: 0,
            },
            nonce: 1,
        }
    }

    fn object() -> Object<Vec<u8>> {
        let state = State::open(vec![0; 8 * MIN_WORDS], 7).unwrap();
        Object::new(Ledger::recover(state).unwrap())
    }

    fn take(object: &mut Object<Vec<u8>>, pid: u32, seq: u64) -> Performed {
        let array = [op(LOCK, 0), op(LOCK, 1)];
        object.change(|it| it.operate(session(pid), seq, (&array, Wait::No), 1))
    }

    #[test]
    fn sleeping_arrays_are_performed_in_the_order_of_arrival() {
        let mut object = object();
        assert_eq!(take(&mut object, 1, 1), Ok(Outcome::Done));
        let lock = [op(LOCK, 0), op(LOCK, 1)];
        let tickets = [5, 4, 3].map(|pid| object.sleep(session(pid), 1, &lock));
        for (index, ticket) in tickets.into_iter().enumerate() {
            let holder = [1, 5, 4][index];
            let process = Identity {
                pid: holder,
                start: 1,
            };
            assert!(object.is_asleep(ticket));
            assert!(object.change(|it| it.end(process, 1)));
            assert_eq!(object.wake(ticket), Some(Ok(Outcome::Done)), "{index}");
            // No other process takes the lock in between.
            assert_eq!(take(&mut object, 9, 1), Ok(Outcome::NotNow), "{index}");
            let asleep = tickets.iter().filter(|&&it| object.is_asleep(it)).count();
            assert_eq!(asleep, 2 - index);
        }
    }

    #[test]
    fn sleeping_array_is_performed_after_a_later_one_makes_it_possible() {
        let mut object = object();
        let first = object.sleep(session(1), 1, &[op(OTHER, -1)]);
        let second = object.sleep(session(2), 1, &[op(LOCK, -1), op(OTHER, 1)]);
        let third = object.sleep(session(3), 1, &[op(LOCK, -1)]);
        let give = [op(LOCK, 1)];
        let given = object.change(|it| it.operate(session(4), 1, (&give, Wait::No), 1));
        assert_eq!(given, Ok(Outcome::Done));
        assert_eq!(object.wake(second), Some(Ok(Outcome::Done)));
        assert_eq!(object.wake(first), Some(Ok(Outcome::Done)));
        assert_eq!(object.wake(third), None);
        // An array that was given up is not performed any more.
        object.change(|it| it.operate(session(4), 2, (&give, Wait::No), 1).unwrap());
        assert_eq!(object.values()[usize::from(LOCK)], 1);
    }

    #[test]
    fn sleeping_arrays_end_when_the_object_is_removed() {
        let mut object = object();
        let ticket = object.sleep(session(1), 1, &[op(LOCK, -1)]);
        assert!(object.change(|it| it.remove(1)));
        assert_eq!(object.wake(ticket), Some(Ok(Outcome::Gone)));
    }
}
