//! Holders of references, on a real set.

use super::*;

/// Returns the named holders of a set, and the number of others. All of them are this process.
fn named(set: &Set<SysvArray>) -> (Vec<u32>, u32) {
    let inspection = run(set.inspect()).unwrap();
    (inspection.holders, inspection.unnamed)
}

#[test]
fn references_without_a_free_slot_are_counted_unnamed() {
    let scratch = Scratch::new("names");
    let first = scratch.open();
    assert!(run(first.try_enter()).unwrap());
    run(first.claim()).unwrap();
    run(first.unlock()).unwrap();
    let me = std::process::id();
    assert_eq!(named(&first), (vec![me], 0));
    let changed = run(first.inspect()).unwrap().changed_at;
    // The kernel's clock has whole seconds.
    let ago = SystemTime::now()
        .duration_since(changed)
        .unwrap_or_default();
    assert!(ago < Duration::from_secs(60), "{ago:?}");

    // All clients try the slot of the first client.
    let room = u32::from(slot::HOLDERS.end - slot::HOLDERS.start);
    let others: Vec<_> = (0..room + 2).map(|_| scratch.open()).collect();
    for (before, other) in (1..).zip(&others) {
        assert!(run(other.join(Supervised::No)).unwrap());
        assert_eq!(run(other.snapshot()).unwrap().clients, before + 1);
        assert_eq!(named(&first), (vec![me], (before + 1).saturating_sub(room)));
    }
    for other in &others {
        assert!(run(other.leave()).unwrap());
    }
    assert_eq!(named(&first), (vec![me], 0));
    assert!(run(first.leave_last()).unwrap());
    assert_eq!(named(&first), (vec![], 0));
    let values = run(scratch.raw().values()).unwrap();
    let slots = slot::HOLDERS.start as usize..slot::HOLDERS.end as usize;
    assert!(values[slots].iter().all(|&value| value == 0));
}

#[test]
fn failed_step_takes_no_holder_slot() {
    let scratch = Scratch::new("refused");
    let set = scratch.open();
    assert!(
        !run(set.join(Supervised::No)).unwrap(),
        "no process holds a reference"
    );
    assert_eq!(named(&set), (vec![], 0));
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    let other = scratch.open();
    assert!(
        !run(other.join(Supervised::No)).unwrap(),
        "the lock is held"
    );
    run(set.unlock()).unwrap();
    assert!(!run(other.join(Supervised::Yes)).unwrap(), "no supervisor");
    assert_eq!(run(set.snapshot()).unwrap().clients, 1);
    let inspection = run(set.inspect()).unwrap();
    assert_eq!(
        (
            inspection.unnamed,
            inspection.supervisor,
            inspection.transition
        ),
        (0, None, None)
    );
}

#[test]
fn failed_leave_keeps_the_holder_slot() {
    let scratch = Scratch::new("kept-name");
    let set = scratch.open();
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    run(set.unlock()).unwrap();
    assert!(!run(set.leave()).unwrap(), "it is the last reference");
    assert_eq!(named(&set), (vec![std::process::id()], 0));
    assert!(run(set.leave_last()).unwrap());
    assert_eq!(named(&set), (vec![], 0));
}

#[test]
fn reference_is_released_when_its_holder_slot_was_cleared() {
    let scratch = Scratch::new("corrupted-names");
    let set = scratch.open();
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    run(set.unlock()).unwrap();
    let values = run(scratch.raw().values()).unwrap();
    let taken = slot::HOLDERS.filter(|&slot| values[slot as usize] > 0);
    for slot in taken {
        let away = Op {
            slot,
            delta: -1,
            undo: false,
            nowait: false,
        };
        assert!(run(scratch.raw().operate("meddle", &[away], Wait::No)).unwrap());
    }
    assert!(run(set.leave_last()).unwrap());
    assert_eq!(run(set.snapshot()).unwrap().clients, 0);
}
