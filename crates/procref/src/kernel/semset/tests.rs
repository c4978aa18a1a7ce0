use procref_supervisor::state::{MAX_GENERATION, MAX_LINGER_MS};

use super::holders::is_possible;
use super::layout::{INSTANCE_SLOTS, MAX_VALUE, OWNER_SLOTS, Values, decode, encode, flag, slot};
use super::op_list::OpList;
use super::steps::{JOIN_SUPERVISED, LONGEST, op, undo};
use crate::kernel::{Ended, Instance, Lock};
use crate::process::Identity;

#[test]
fn published_instance_is_decoded_as_encoded() {
    let instance = Instance {
        identity: Identity {
            pid: 4_194_303,
            start: u64::MAX,
        },
        port: u16::MAX,
        ready: true,
        stopping: false,
        hosted: false,
        has_metadata: true,
        keep_orphan: true,
        command: true,
        linger_ms: MAX_LINGER_MS,
    };
    let mut values = [0; slot::COUNT as usize];
    encode(&mut values, Some(&instance), 7);
    assert!(values.iter().all(|&value| value <= MAX_VALUE));
    let read = decode(&values, true);
    assert_eq!((read.instance, read.generation), (Some(instance), 7));
    encode(&mut values, None, 7);
    assert_eq!(decode(&values, true).instance, None);
}

#[test]
fn instance_flags_are_decoded_as_encoded() {
    let none = Instance {
        identity: Identity { pid: 7, start: 8 },
        port: 0,
        ready: false,
        stopping: false,
        hosted: false,
        has_metadata: false,
        keep_orphan: false,
        command: false,
        linger_ms: 0,
    };
    let flags: [fn(&mut Instance) -> &mut bool; 6] = [
        |it| &mut it.ready,
        |it| &mut it.stopping,
        |it| &mut it.hosted,
        |it| &mut it.has_metadata,
        |it| &mut it.keep_orphan,
        |it| &mut it.command,
    ];
    for chosen in 0..1 << flags.len() {
        let mut instance = none;
        for (bit, flag) in flags.iter().enumerate() {
            *flag(&mut instance) = chosen >> bit & 1 == 1;
        }
        let mut values = [0; slot::COUNT as usize];
        encode(&mut values, Some(&instance), 1);
        assert_eq!(decode(&values, true).instance, Some(instance));
        // Without a local process there is an instance if any flag is set.
        instance.identity = Identity { pid: 0, start: 0 };
        encode(&mut values, Some(&instance), 1);
        let expected = (chosen != 0).then_some(instance);
        assert_eq!(decode(&values, true).instance, expected);
    }
    let mut values = [0; slot::COUNT as usize];
    values[slot::FLAGS as usize] = !flag::ALL & MAX_VALUE;
    assert_eq!(
        decode(&values, true).instance,
        None,
        "unknown flags alone are not an instance"
    );
}

#[test]
fn exit_status_is_cleared_by_a_new_instance() {
    let (new, serving, stopping) = ((false, false), (true, false), (false, true));
    for ((ready, stopping), kept) in [(new, false), (serving, true), (stopping, true)] {
        let instance = Instance {
            identity: Identity { pid: 7, start: 8 },
            port: 0,
            ready,
            stopping,
            hosted: false,
            has_metadata: false,
            keep_orphan: false,
            command: true,
            linger_ms: 0,
        };
        let mut values = [0; slot::COUNT as usize];
        values[slot::EXIT as usize] = Ended::Exited(3).encode();
        encode(&mut values, Some(&instance), 1);
        let ended = kept.then_some(Ended::Exited(3));
        assert_eq!(decode(&values, true).ended, ended, "{instance:?}");
    }
}

#[test]
fn exit_status_is_decoded_as_encoded() {
    for ended in [
        Ended::Exited(0),
        Ended::Exited(255),
        Ended::Killed(9),
        Ended::Killed(255),
    ] {
        assert_eq!(Ended::decode(ended.encode()), Some(ended));
        let ops = OpList::retirement(Lock::Release, Some(ended));
        assert_eq!(
            ops.ops().last(),
            Some(&op(slot::EXIT, ended.encode() as i16))
        );
        assert_eq!(ops.ops().len(), 3);
    }
    assert_eq!(Ended::decode(0), None);
}

#[test]
fn generations_wrap_to_one() {
    let at = |generation| {
        let mut values = [0; slot::COUNT as usize];
        encode(&mut values, None, generation);
        decode(&values, true).next_generation()
    };
    assert_eq!([at(0), at(1), at(MAX_GENERATION)], [1, 2, 1]);
}

#[test]
fn required_slot_must_have_exactly_its_value() {
    for value in [0, 1, 7, MAX_VALUE] {
        let mut values: Values = [0; slot::COUNT as usize];
        values[slot::FLAGS as usize] = value;
        let list = OpList::requiring(&values, [slot::FLAGS]);
        assert!(is_possible(list.ops(), &values), "{value}");
        let sum: i32 = list.ops().iter().map(|op| i32::from(op.delta)).sum();
        assert_eq!(sum, 0, "the slot keeps its value");
        for other in [value.saturating_sub(1), value + 1, 0, MAX_VALUE] {
            let mut changed = values;
            changed[slot::FLAGS as usize] = other;
            let is_same = other == value;
            assert_eq!(
                is_possible(list.ops(), &changed),
                is_same,
                "{value}, {other}"
            );
        }
    }
}

#[test]
fn longest_rejoin_fits_into_an_array() {
    let values: Values = [MAX_VALUE; slot::COUNT as usize];
    let owner = OpList::requiring(&values, OWNER_SLOTS);
    let instance = OpList::requiring(&values, INSTANCE_SLOTS);
    let holder = [op(slot::HOLDERS.start, 0), undo(slot::HOLDERS.start, 1)];
    let parts = [&JOIN_SUPERVISED[..], owner.ops(), instance.ops(), &holder];
    let sum: usize = parts.iter().map(|part| part.len()).sum();
    assert_eq!(OpList::concat(parts).ops().len(), sum);
    assert_eq!(sum, LONGEST);
}
