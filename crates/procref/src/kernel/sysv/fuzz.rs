//! Properties of all values that a set, or the kernel's list of sets, may contain.

use procref_supervisor::state::MAX_GENERATION;

use super::survey::candidate;
use crate::fuzzing::Input;
use crate::kernel::semset::layout::{self, MAX_VALUE, Values, slot};
use crate::kernel::semset::op_list::OpList;
use crate::kernel::semset::steps::{MAX_OPS, Op};
use crate::kernel::{Instance, Lock, exit_status};

/// The values of a set. Any process of this user can write any values.
///
/// Every combination of values can be decoded. An instance that is published over them is read back, after
/// one array that changes every slot.
pub fn semaphores(data: &[u8]) {
    let mut input = Input::new(data);
    let generation = u16::from_le_bytes(input.bytes()) % (MAX_GENERATION + 1);
    let mut before: Values = [0; slot::COUNT as usize];
    for value in &mut before {
        // The kernel stores no higher values.
        *value = u16::from_le_bytes(input.bytes()) & MAX_VALUE;
    }
    let snapshot = layout::decode(&before, true);
    assert!((1..=MAX_GENERATION).contains(&snapshot.next_generation()));
    let _ = (snapshot.lingers(), snapshot.is_left_to_supervisor());
    let _ = snapshot.ended.map(exit_status);

    // A supervisor publishes these values after it has read a snapshot.
    let stopping = snapshot.instance.map(|instance| Instance {
        stopping: true,
        ..instance
    });
    for instance in [snapshot.instance, stopping, None] {
        for lock in [Lock::Keep, Lock::Release] {
            let mut after = before;
            layout::encode(&mut after, instance.as_ref(), generation);
            let read = layout::decode(&after, true);
            assert_eq!((read.instance, read.generation), (instance, generation));
            let changes = OpList::between(&before, &after, lock);
            assert!(changes.ops().len() <= MAX_OPS);
            if lock == Lock::Keep {
                assert_eq!(performed(changes.ops(), &before), after);
            }
        }
    }
}

/// Returns the values after an array, without checking whether it could be performed.
fn performed(ops: &[Op], values: &Values) -> Values {
    let mut values = *values;
    for op in ops {
        assert_ne!(op.delta, 0, "the array would wait");
        let value = &mut values[usize::from(op.slot)];
        *value = value
            .checked_add_signed(op.delta)
            .expect("the value does not become negative");
    }
    values
}

/// `/proc/sysvipc/sem`: only sets that belong to this user, are closed to others and have the right size are
/// used.
pub fn proc_sysvipc_sem(data: &[u8]) {
    let mut input = Input::new(data);
    let [user, uid, id, key, slots, mode] = [(); 6].map(|()| u32::from_le_bytes(input.bytes()));
    let (id, key) = ((id >> 1) as i32, key as i32);
    for (uid, slots, mode) in [(uid, slots, mode), (user, slot::COUNT.into(), 0o600)] {
        let mode = mode & 0o7777;
        // The format in which the kernel prints a line.
        let line = format!("{key:10} {id:10}  {mode:4o} {slots:10} {uid:5} 0 0 0 1700000000 0");
        let is_ours = uid == user && slots == u32::from(slot::COUNT) && mode == 0o600;
        assert_eq!(candidate(&line, user), is_ours.then_some(id), "{line}");
    }
    let text = String::from_utf8_lossy(input.rest());
    for line in text.lines() {
        if candidate(line, user).is_some() {
            assert!(
                line.contains("600") && line.contains(&user.to_string()),
                "{line}"
            );
        }
    }
}
