use super::*;
use crate::kernel::counted::ledger::{Ledger, Session};
use crate::kernel::semset::Wait;
use crate::kernel::semset::steps::{ENTER, JOIN, Op, UNLOCK, op, undo};
use crate::kernel::table::Outcome;
use crate::process::Identity;

pub(crate) const BOOT: u64 = 7;

/// A memory that records its stores.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    words: Vec<u64>,
    pub(crate) stores: Vec<(usize, u64)>,
}

impl Recorder {
    pub(crate) fn blank() -> Self {
        Self {
            words: vec![0; MIN_WORDS],
            stores: Vec::new(),
        }
    }

    /// Returns the memory after the death of its process: without the stores after the first `count`.
    ///
    /// `before` is the memory when recording began.
    pub(crate) fn after_death(before: &Self, stores: &[(usize, u64)], count: usize) -> Self {
        let mut memory = before.clone();
        memory.stores.clear();
        for &(word, value) in &stores[..count] {
            if memory.words.len() <= word {
                memory.words.resize(2 * word, 0);
            }
            memory.words[word] = value;
        }
        memory
    }
}

impl Memory for Recorder {
    fn load(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }

    fn store(&mut self, word: usize, value: u64) {
        self.words[word] = value;
        self.stores.push((word, value));
    }

    fn words(&self) -> usize {
        self.words.len()
    }

    fn grow(&mut self, words: usize) -> io::Result<()> {
        self.words.resize(words, 0);
        Ok(())
    }
}

pub(crate) fn opened(memory: Recorder) -> Ledger<Recorder> {
    let state = State::open(memory, BOOT).expect("the file is usable");
    Ledger::recover(state).expect("the contents are usable")
}

fn contents_of(memory: Recorder) -> Contents {
    let state = State::open(memory, BOOT).expect("the file is usable");
    state.contents().expect("the contents are usable")
}

pub(crate) fn session(pid: u32, nonce: u64) -> Session {
    let (start, role) = (9, 0);
    Session {
        owner: UndoOwner { pid, start, role },
        nonce,
    }
}

/// Checks a file after each prefix of the stores of a change: it contains the state before the change or the state
/// after it, and never the state before again once it has contained the state after. The same holds if the successor
/// dies after each of its own stores.
fn check_prefixes(before: &Recorder, stores: &[(usize, u64)], states: &[Contents; 2]) {
    let mut reached = 0;
    for count in 0..=stores.len() {
        let left = Recorder::after_death(before, stores, count);
        let state = State::open(left.clone(), BOOT).expect("a successor can open the file");
        let recovered = state.contents().expect("a successor can read the file");
        let position = states.iter().position(|it| *it == recovered);
        let position = position.unwrap_or_else(|| panic!("store {count}: {recovered:?}"));
        assert!(position >= reached, "store {count} reverts the change");
        reached = position;
        let own = state.into_memory().stores;
        for died in 0..=own.len() {
            let again = Recorder::after_death(&left, &own, died);
            assert_eq!(contents_of(again), recovered, "store {count}, then {died}");
        }
    }
    assert_eq!(
        reached,
        states.len() - 1,
        "the last store completes the change"
    );
}

/// Returns an array that a client could send, with any effect.
fn random_array(random: &mut fastrand::Rng) -> Vec<Op> {
    let slots = [slot::REFS, slot::LOCK, slot::PIN, slot::GENERATION, 77, 129];
    let mut operation = |_| {
        let slot = slots[random.usize(..slots.len())];
        let delta = random.i16(-1..=3);
        match random.bool() {
            true => undo(slot, delta),
            false => op(slot, delta),
        }
    };
    (0..4).map(&mut operation).collect()
}

#[test]
fn file_after_every_store_of_a_change_is_before_or_after_it() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut ledger = opened(Recorder::blank());
    let mut performed = 0;
    for step in 1..400 {
        let before = ledger.into_memory();
        let state = contents_of(before.clone());
        let mut recorded = before.clone();
        recorded.stores.clear();
        ledger = opened(recorded);
        let (pid, nonce) = (random.u32(1..5), random.u64(1..4));
        let changes = match random.u32(..8) {
            0 => {
                let process = Identity { pid, start: 9 };
                // One change for each entry: the states between them are states, too.
                if ledger.end(process, step) {
                    continue;
                }
                false
            }
            1 => {
                ledger.name_keeper(Identity { pid, start: step }, b"/run/keeper.s");
                false
            }
            _ => {
                let array = random_array(&mut random);
                ledger.operate(session(pid, nonce), step, (&array, Wait::No), step)
                    == Ok(Outcome::Done)
            }
        };
        let recorded = ledger.into_memory();
        let after = contents_of(recorded.clone());
        assert_eq!(changes, after != state);
        performed += u32::from(changes);
        match changes {
            true => check_prefixes(&before, &recorded.stores, &[state, after]),
            false => assert_eq!(after, state),
        }
        ledger = opened(recorded);
    }
    assert!(performed > 100, "only {performed} arrays were performed");
}

#[test]
fn file_after_every_store_of_its_initialization_is_blank() {
    let empty = contents_of(Recorder::blank());
    let mut other_boot = opened(Recorder::blank());
    let done = other_boot.operate(session(1, 1), 1, (&ENTER, Wait::No), 5);
    assert_eq!(done, Ok(Outcome::Done));
    let mut other_boot = other_boot.into_memory();
    other_boot.store(super::BOOT, BOOT + 1);
    for before in [Recorder::blank(), other_boot] {
        let mut recorded = before.clone();
        recorded.stores.clear();
        let state = State::open(recorded, BOOT).expect("the file is void");
        let stores = state.into_memory().stores;
        for count in 0..=stores.len() {
            let left = Recorder::after_death(&before, &stores, count);
            assert_eq!(contents_of(left), empty, "store {count}");
        }
    }
}

#[test]
fn removal_and_end_after_every_store_are_complete_or_repeated() {
    let mut ledger = opened(Recorder::blank());
    for (nonce, seq, ops) in [
        (1, 1, &ENTER[..]),
        (2, 1, &UNLOCK),
        (3, 1, &[op(slot::PIN, 1)]),
    ] {
        assert_eq!(
            ledger.operate(session(4, nonce), seq, (ops, Wait::No), 1),
            Ok(Outcome::Done)
        );
    }
    assert_eq!(
        ledger.operate(session(5, 1), 1, (&JOIN, Wait::No), 1),
        Ok(Outcome::Done)
    );
    let before = ledger.into_memory();
    let process = Identity { pid: 4, start: 9 };
    let mut recorded = before.clone();
    recorded.stores.clear();
    let mut ledger = opened(recorded);
    assert!(ledger.end(process, 2));
    let recorded = ledger.into_memory();
    let ended = contents_of(recorded.clone());
    for count in 0..=recorded.stores.len() {
        // The successor finds the process dead and ends it, completely.
        let mut ledger = opened(Recorder::after_death(&before, &recorded.stores, count));
        assert!(!ledger.has_entries(process) || ledger.end(process, 2));
        assert_eq!(contents_of(ledger.into_memory()), ended, "store {count}");
    }

    let mut before = recorded;
    before.stores.clear();
    let mut ledger = opened(before.clone());
    assert!(
        ledger.remove(3) && !ledger.remove(4),
        "an object is removed once"
    );
    let recorded = ledger.into_memory();
    let states = [contents_of(before.clone()), contents_of(recorded.clone())];
    assert!(states[1].removed);
    check_prefixes(&before, &recorded.stores, &states);
    assert_eq!(condition(&recorded, BOOT), Ok(Condition::Removed));
}

#[test]
fn file_grows_with_its_clients_and_reuses_entries() {
    let mut ledger = opened(Recorder::blank());
    for pid in 1..=200 {
        let done = ledger.operate(session(pid, 1), 1, (&[undo(slot::REFS, 1)], Wait::No), 1);
        assert_eq!(done, Ok(Outcome::Done));
    }
    let mut ledger = opened(ledger.into_memory());
    assert_eq!(ledger.values()[slot::REFS as usize], 200);
    for pid in 1..=200 {
        assert!(ledger.end(Identity { pid, start: 9 }, 2));
    }
    assert!(ledger.is_blank());
    let words = ledger.into_memory().words.len();
    let mut ledger = opened(Recorder::blank());
    for pid in 1..=200 {
        let done = ledger.operate(session(pid, 1), 1, (&[undo(slot::REFS, 1)], Wait::No), 1);
        assert_eq!(done, Ok(Outcome::Done));
        assert!(ledger.end(Identity { pid, start: 9 }, 2));
    }
    let reused = ledger.into_memory().words.len();
    assert_eq!((words, reused), (CLIENTS + 256 * ENTRY_WORDS, MIN_WORDS));
}

#[test]
fn header_names_keeper_and_socket() {
    let mut state = State::open(Recorder::blank(), BOOT).unwrap();
    let longest = [b'x'; MAX_SOCKET];
    for path in [&longest[..], b"/run/s"] {
        state.name_keeper(4711, u64::MAX, path);
        assert_eq!(socket(&state.0), path);
        assert_eq!(keeper(&state.0), (4711, u64::MAX));
    }
    assert_eq!(condition(&state.0, BOOT), Ok(Condition::InUse));
    assert_eq!(condition(&state.0, BOOT + 1), Ok(Condition::Blank));
}

#[test]
fn file_with_wrong_contents_is_refused() {
    let mut ledger = opened(Recorder::blank());
    for nonce in [1, 2] {
        let done = ledger.operate(session(4, nonce), 1, (&[undo(slot::REFS, 1)], Wait::No), 1);
        assert_eq!(done, Ok(Outcome::Done));
    }
    let good = ledger.into_memory();
    let adjusted = good.words[CLIENTS + 4..CLIENTS + 8].to_vec();
    type Change = fn(&mut Recorder, &[u64]);
    let cases: [(&str, Change); 13] = [
        ("another file", |it, _| it.words[0] = 1),
        ("another version", |it, _| it.words[0] = MAGIC + 1),
        ("cut", |it, _| it.words.truncate(512)),
        ("too large", |it, _| it.words.resize(MAX_WORDS + 1, 0)),
        ("two changes ahead", |it, _| it.words[COMMITTED] += 2),
        ("a change behind", |it, _| it.words[APPLIED] += 1),
        ("a high value", |it, _| it.words[VALUES] = 0x8000),
        ("an unknown entry", |it, _| it.words[CLIENTS] |= 1 << 50),
        ("too many adjustments", |it, _| it.words[CLIENTS + 4] = 7),
        ("no such slot", |it, _| {
            it.words[CLIENTS + 5] = 0x0001_0000 + 130
        }),
        ("two entries with adjustments", |it, adjusted| {
            it.words[CLIENTS + 12..CLIENTS + 16].copy_from_slice(adjusted);
        }),
        ("a record with many entries", |it, _| {
            it.words[COMMITTED] += 1;
            it.words[ENTRY_COUNT] = 3;
        }),
        ("a record beyond the end", |it, _| {
            it.words[COMMITTED] += 1;
            it.words[ENTRIES] = 64;
        }),
    ];
    for (what, change) in cases {
        let mut memory = good.clone();
        change(&mut memory, &adjusted);
        let opened = State::open(memory, BOOT).and_then(Ledger::recover);
        assert!(opened.is_err(), "{what}");
    }
    assert!(State::open(good, BOOT).and_then(Ledger::recover).is_ok());
}
