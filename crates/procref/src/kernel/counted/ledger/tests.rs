use super::*;
use crate::kernel::counted::state::tests::{Recorder, opened, session};
use crate::kernel::semset::slot;
use crate::kernel::semset::steps::{ENTER, JOIN, UNLOCK, op, undo};

#[test]
fn repeated_request_changes_nothing_and_lower_number_is_refused() {
    let mut ledger = opened(Recorder::blank());
    let one = session(1, 1);
    let add = [undo(slot::REFS, 1)];
    for _ in 0..3 {
        assert_eq!(
            ledger.operate(one, 5, (&add, Wait::No), 1),
            Ok(Outcome::Done)
        );
    }
    assert_eq!(ledger.values()[slot::REFS as usize], 1);
    assert_eq!(ledger.operate(one, 4, (&add, Wait::No), 1), Err(Stale));
    // A refused request is not remembered, and succeeds later under the same number.
    let wait = [op(slot::PIN, -1), op(slot::PIN, 1)];
    assert_eq!(
        ledger.operate(one, 6, (&wait, Wait::No), 1),
        Ok(Outcome::NotNow)
    );
    let other = session(1, 2);
    assert_eq!(
        ledger.operate(other, 1, (&[op(slot::PIN, 1)], Wait::No), 1),
        Ok(Outcome::Done)
    );
    assert_eq!(
        ledger.operate(one, 6, (&wait, Wait::No), 1),
        Ok(Outcome::Done)
    );
}

#[test]
fn two_sessions_of_a_process_share_their_adjustments() {
    let mut ledger = opened(Recorder::blank());
    let (one, other) = (session(1, 1), session(1, 2));
    assert_eq!(
        ledger.operate(one, 1, (&ENTER, Wait::No), 1),
        Ok(Outcome::Done)
    );
    // A successor takes over between the two.
    let mut ledger = opened(ledger.into_memory());
    assert_eq!(
        ledger.operate(other, 1, (&UNLOCK, Wait::No), 1),
        Ok(Outcome::Done)
    );
    assert_eq!(
        ledger.operate(other, 2, (&JOIN, Wait::No), 1),
        Ok(Outcome::Done)
    );
    let mut ledger = opened(ledger.into_memory());
    assert_eq!(
        ledger.operate(one, 1, (&ENTER, Wait::No), 1),
        Ok(Outcome::Done),
        "repeated"
    );
    assert_eq!(
        ledger.operate(other, 2, (&JOIN, Wait::No), 1),
        Ok(Outcome::Done),
        "repeated"
    );
    assert_eq!(ledger.values()[slot::REFS as usize], 2);
    assert_eq!(ledger.processes(), [process_of(&one.owner)]);
    assert!(ledger.end(process_of(&one.owner), 1));
    assert!(ledger.is_blank(), "all references ended with the process");
}

#[test]
fn removed_object_refuses_every_change() {
    let mut ledger = opened(Recorder::blank());
    assert_eq!(
        ledger.operate(session(1, 1), 1, (&ENTER, Wait::No), 1),
        Ok(Outcome::Done)
    );
    assert!(ledger.remove(1));
    assert_eq!(
        ledger.operate(session(1, 1), 1, (&ENTER, Wait::No), 1),
        Ok(Outcome::Gone)
    );
    assert_eq!(
        ledger.try_out(session(1, 1).owner, &[op(slot::PIN, 0)]),
        Outcome::Gone
    );
}

// --- exactly once ---------------------------------------------------------------

/// The requests of the client in the model, in order.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Array(&'static [Op]),
    Remove,
}

const ADD: [Op; 2] = [undo(slot::REFS, 1), op(slot::PIN, 1)];
/// Can be performed after the other client has made its change, and is refused before.
const TAKE: [Op; 1] = [op(slot::GENERATION, -1)];
const SUBTRACT: [Op; 1] = [op(slot::PIN, -1)];
/// The change of the other client.
const GIVE: [Op; 2] = [undo(slot::REFS, 1), op(slot::GENERATION, 1)];

const SCRIPT: [Ask; 6] = [
    Ask::Array(&ENTER),
    Ask::Array(&UNLOCK),
    Ask::Array(&ADD),
    Ask::Array(&TAKE),
    Ask::Array(&SUBTRACT),
    Ask::Remove,
];

/// A state of one client, the keeper, its file, and another client.
///
/// The client performs its script: it sends a request, receives the answer or loses the connection, and sends the
/// request again. The keeper may die after every store of a change, before and after it unlinks the file, and before
/// it sends the answer. The other client makes one change before any of these steps.
#[derive(Clone)]
struct World {
    /// `None` after the file was unlinked.
    file: Option<Recorder>,
    /// The position of the client in its script.
    at: usize,
    /// `true` if the client has sent the current request and has lost the connection.
    lost: bool,
    deaths_left: u32,
    /// The answers that the client has received.
    done: [bool; SCRIPT.len()],
    other_gave: bool,
}

impl World {
    /// Returns the states after all possible next steps.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let Some(ask) = SCRIPT.get(self.at) else {
            return next;
        };
        let Some(file) = &self.file else {
            // The rule of a client: if the answer to REMOVE was lost and the object is gone, REMOVE is done.
            let done = matches!(ask, Ask::Remove) && self.lost;
            next.push(self.answered(None, done));
            return next;
        };
        if !self.other_gave {
            let mut ledger = opened(file.clone());
            let given = ledger.operate(session(2, 1), 1, (&GIVE, Wait::No), 1);
            assert_eq!(given, Ok(Outcome::Done));
            next.push(Self {
                file: Some(ledger.into_memory()),
                other_gave: true,
                ..self.clone()
            });
        }
        let mut recorded = file.clone();
        recorded.stores.clear();
        let mut ledger = opened(recorded);
        let done = match ask {
            Ask::Array(ops) => {
                let outcome = ledger.operate(session(1, 1), self.at as u64 + 1, (ops, Wait::No), 1);
                outcome == Ok(Outcome::Done)
            }
            Ask::Remove => ledger.remove(1),
        };
        let after = ledger.into_memory();
        if self.deaths_left > 0 {
            for count in 0..=after.stores.len() {
                let left = Recorder::after_death(file, &after.stores, count);
                // The next starter unlinks the file of a removed object.
                let is_removed = opened(left.clone()).is_removed();
                next.push(self.bereft((!is_removed).then_some(left)));
            }
        }
        let left = matches!(ask, Ask::Array(_)).then_some(after);
        next.push(self.answered(left, done));
        next
    }

    /// The keeper dies before the client has received the answer.
    fn bereft(&self, file: Option<Recorder>) -> Self {
        Self {
            file,
            lost: true,
            deaths_left: self.deaths_left - 1,
            ..self.clone()
        }
    }

    fn answered(&self, file: Option<Recorder>, done: bool) -> Self {
        let mut world = Self {
            file,
            at: self.at + 1,
            lost: false,
            ..self.clone()
        };
        world.done[self.at] = done;
        world
    }

    /// Checks that each request which the client knows to be done has had its effect once.
    fn check(&self) {
        let [enter, unlock, add, take, subtract, remove] = self.done.map(u16::from);
        if self.at == SCRIPT.len() {
            assert_eq!((remove, self.file.is_none()), (1, true), "REMOVE is done");
            assert_eq!([enter, unlock, add, subtract], [1; 4]);
            return;
        }
        // While an answer is lost, the request may or may not have been performed.
        let Some(file) = self.file.as_ref().filter(|_| !self.lost) else {
            return;
        };
        let ledger = opened(file.clone());
        let at = |slot: u16| ledger.values()[slot as usize];
        let gave = u16::from(self.other_gave);
        assert_eq!(at(slot::REFS), enter + add + gave);
        assert_eq!(at(slot::LOCK), enter - unlock);
        assert_eq!(at(slot::PIN), add - subtract);
        assert_eq!(at(slot::GENERATION), gave - take);
    }

    /// Returns everything that later steps depend on. The redo record is not a part of it.
    fn key(&self) -> String {
        let contents = self.file.as_ref().map(|file| {
            let mut ledger = opened(file.clone());
            ledger.changed_at = 0;
            (ledger.entries, *ledger.table.values(), ledger.removed)
        });
        let Self {
            at,
            lost,
            deaths_left,
            done,
            other_gave,
            ..
        } = self;
        format!("{contents:?} {at} {lost} {deaths_left} {done:?} {other_gave}")
    }
}

#[test]
fn requests_are_performed_exactly_once_when_keepers_die() {
    let mut todo = vec![World {
        file: Some(opened(Recorder::blank()).into_memory()),
        at: 0,
        lost: false,
        deaths_left: 3,
        done: [false; SCRIPT.len()],
        other_gave: false,
    }];
    let mut seen = std::collections::HashSet::new();
    let mut ends = 0;
    while let Some(world) = todo.pop() {
        if seen.insert(world.key()) {
            world.check();
            ends += u32::from(world.at == SCRIPT.len());
            todo.extend(world.next());
        }
    }
    assert!(
        ends > 4 && seen.len() > 100,
        "{ends} ends of {} states",
        seen.len()
    );
}
