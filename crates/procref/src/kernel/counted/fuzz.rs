//! Properties of all bytes that a state file or a message may contain.

use super::ledger::{Ledger, Session};
use super::order::LaunchOrder;
use super::state::{MIN_WORDS, Memory as _, State};
use super::sys::MAX_DESCRIPTORS;
use super::wire::{ANSWER_LENGTH, Answer, Call, REQUEST_LENGTH, Request, may_sleep};
use crate::fuzzing::Input;
use crate::kernel::semset::{MAX_OPS, MAX_VALUE, Wait, slot};
use crate::kernel::table::{Outcome, UndoOwner};
use crate::process::Identity;

/// Messages: a request or an answer is refused, or is exactly what its sender encoded.
pub fn keeper_message(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes: [u8; REQUEST_LENGTH] = input.bytes();
    if let Ok(request) = Request::decode(&bytes) {
        assert_eq!(request.encode(), bytes);
        if let Call::Operate(ops) | Call::Wait(ops) = &request.call {
            assert!((1..=MAX_OPS).contains(&ops.len()));
            assert!(ops.iter().all(|op| op.slot < slot::COUNT));
            let _ = may_sleep(ops);
        }
        assert!(request.call.descriptors() <= MAX_DESCRIPTORS);
    }
    let bytes: [u8; ANSWER_LENGTH] = input.bytes();
    if let Some(answer) = Answer::decode(&bytes) {
        assert_eq!(answer.encode(), bytes);
    }
}

/// The order to launch a service: it is refused, or has the same bytes whenever it is encoded again.
pub fn keeper_order(data: &[u8]) {
    let Some(order) = LaunchOrder::decode(data) else {
        return;
    };
    // A client encodes a starting instance of any kind in the same way.
    let bytes = order.encode();
    let again = LaunchOrder::decode(&bytes).expect("an order is read back");
    assert_eq!(again.encode(), bytes);
    let texts = [&order.program, &order.dir].into_iter();
    let texts = texts
        .chain(&order.log_texts)
        .chain(&order.args)
        .chain(&order.env);
    let length: usize = texts.map(|text| text.as_bytes().len()).sum();
    assert!(length < data.len(), "no text is invented");
}

/// The state file: arbitrary words are refused, or are an object whose values are within their limits and that
/// continues to work.
///
/// The input is the number of a word and its value, repeatedly, over a file of this boot.
pub fn keeper_state(data: &[u8]) {
    const BOOT: u64 = 7;

    let blank = State::open(vec![0; 8 * MIN_WORDS], BOOT).expect("a blank file is usable");
    let mut memory = blank.into_memory();
    let mut input = Input::new(data);
    while !input.is_empty() {
        let word = usize::from(u16::from_le_bytes(input.bytes())) % MIN_WORDS;
        memory.store(word, u64::from_le_bytes(input.bytes()));
    }
    let Ok(mut ledger) = State::open(memory, BOOT).and_then(Ledger::recover) else {
        return;
    };
    assert!(ledger.values().iter().all(|&value| value <= MAX_VALUE));
    for process in ledger.processes() {
        assert!(ledger.end(process, 1));
    }
    let (pid, start, role) = (1, 2, 0);
    let session = Session {
        owner: UndoOwner { pid, start, role },
        nonce: 1,
    };
    let take = [crate::kernel::semset::steps::TAKE_REFERENCE];
    let outcome = ledger.operate(session, 1, (&take, Wait::No), 1);
    assert_eq!(outcome == Ok(Outcome::Gone), ledger.is_removed());
    if outcome == Ok(Outcome::Done) {
        let refs = ledger.values()[usize::from(slot::REFS)];
        let again = State::open(ledger.into_memory(), BOOT).and_then(Ledger::recover);
        let mut again = again.expect("the file that a keeper has written is usable");
        assert_eq!(again.values()[usize::from(slot::REFS)], refs);
        assert!(again.end(Identity { pid, start }, 2));
        assert!(again.processes().is_empty());
    }
}
