//! The steps of a supervisor on a real set, and the steps that require one. This process performs all of them, so no
//! wait sleeps for another process.

use std::time::Instant;

use procref_supervisor::raw_calls::Limit;

use super::*;
use crate::kernel::Ended;
use crate::kernel::semset::signal_safe::Refused;

const SOON: Duration = Duration::from_millis(20);
/// No sleep in these tests takes this long.
const LONG: Duration = Duration::from_secs(30);

fn until(limit: Duration) -> Limit {
    let it = Limit::new();
    it.set(Some(limit));
    it
}

/// Returns a set that this process has entered and claimed. It holds the lock.
fn entered(scratch: &Scratch) -> Set<SysvArray> {
    let set = scratch.open();
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    set
}

fn value(scratch: &Scratch, slot: u16) -> u16 {
    run(scratch.raw().values()).unwrap()[usize::from(slot)]
}

#[test]
fn join_and_leave_can_require_a_supervisor() {
    let scratch = Scratch::new("supervised");
    let set = entered(&scratch);
    run(set.unlock()).unwrap();
    assert!(!run(set.snapshot()).unwrap().supervised);
    assert!(
        !run(set.join(Supervised::Yes)).unwrap(),
        "there is no supervisor"
    );
    assert!(
        !run(set.leave_to_supervisor()).unwrap(),
        "there is no supervisor"
    );
    run(set.array().signal_safe().supervise()).unwrap();
    assert!(run(set.snapshot()).unwrap().supervised);
    let inspection = run(set.inspect()).unwrap();
    assert_eq!(inspection.supervisor, Some(std::process::id()));
    assert!(run(set.join(Supervised::Yes)).unwrap());
    assert_eq!(run(set.snapshot()).unwrap().clients, 2);
    // All clients leave, one after another.
    assert!(run(set.leave_to_supervisor()).unwrap());
    assert!(run(set.leave_to_supervisor()).unwrap());
    assert_eq!(run(set.snapshot()).unwrap().clients, 0);
    assert_eq!(
        value(&scratch, slot::SUPERVISOR),
        1,
        "the requirement changes nothing"
    );
}

#[test]
fn unlock_to_supervisor_requires_a_supervisor() {
    let scratch = Scratch::new("unlocked");
    let set = entered(&scratch);
    assert!(
        !run(set.unlock_to_supervisor()).unwrap(),
        "there is no supervisor"
    );
    assert!(
        run(set.snapshot()).unwrap().locked,
        "no part of the step is done"
    );
    run(set.array().signal_safe().supervise()).unwrap();
    assert!(run(set.unlock_to_supervisor()).unwrap());
    let snapshot = run(set.snapshot()).unwrap();
    assert!(!snapshot.locked && snapshot.supervised && snapshot.clients == 1);
}

#[test]
fn supervisor_takes_the_lock_only_when_idle() {
    let scratch = Scratch::new("idle");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    let not_idle = || {
        assert_eq!(run(set_calls.try_idle()), Err(Refused::NotNow));
        assert_eq!(run(set_calls.wait_idle(&until(SOON))), Err(Refused::NotNow));
    };
    not_idle();
    run(set.unlock()).unwrap();
    not_idle();
    run(set_calls.wait_client(&until(LONG))).unwrap();
    assert_eq!(
        run(set.snapshot()).unwrap().clients,
        1,
        "looking takes none"
    );
    run(set.pin()).unwrap();
    assert!(run(set.leave_pinned()).unwrap());
    not_idle();
    assert_eq!(
        run(set_calls.wait_client(&until(SOON))),
        Err(Refused::NotNow)
    );
    assert!(run(set.unpin()).unwrap());
    run(set_calls.wait_idle(&until(LONG))).unwrap();
    assert!(run(set.snapshot()).unwrap().locked);
    not_idle();
    run(set_calls.unlock()).unwrap();
    run(set_calls.try_idle()).unwrap();
    assert!(run(set.snapshot()).unwrap().locked);
}

#[test]
fn tree_supervisor_shares_the_lock_with_its_starter() {
    let scratch = Scratch::new("tree");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    let state = || {
        let it = run(set.snapshot()).unwrap();
        (it.locked, it.tree, it.supervised)
    };
    run(set_calls.supervise_tree(LONG)).unwrap();
    assert_eq!(state(), (true, true, true));
    let inspection = run(set.inspect()).unwrap();
    assert_eq!(inspection.supervisor, Some(std::process::id()));
    assert_eq!(
        run(set_calls.wait_alone(&until(SOON))),
        Err(Refused::NotNow)
    );
    run(set.unlock()).unwrap();
    assert!(state().0, "the supervisor still holds its share");
    run(set_calls.wait_alone(&until(LONG))).unwrap();
    assert!(state().0, "the lock is still held");
    // A second supervisor waits for the processes of the first.
    assert_eq!(run(set_calls.supervise_tree(SOON)), Err(Refused::NotNow));
    run(set_calls.retire(Lock::Release, None)).unwrap();
    assert_eq!(state(), (false, false, true));
}

#[test]
fn supervise_tree_fails_when_the_starter_released_the_lock() {
    let scratch = Scratch::new("let-go");
    let set = entered(&scratch);
    run(set.unlock()).unwrap();
    let start = Instant::now();
    assert_eq!(
        run(set.array().signal_safe().supervise_tree(LONG)),
        Err(Refused::NotNow)
    );
    assert!(start.elapsed() < LONG / 2, "it waited for the lock");
    let left = run(set.snapshot()).unwrap();
    assert!(!left.locked && !left.tree && !left.supervised);
}

/// The supervisor would keep the descriptors of its dead starter open until another service ends.
#[test]
fn late_supervisor_does_not_wait_for_another_tree() {
    let scratch = Scratch::new("late");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    run(set_calls.supervise_tree(LONG)).unwrap();
    // The start of the other supervisor takes some time and then ends.
    let late = thread::spawn(move || {
        let start = Instant::now();
        (run(set_calls.supervise_tree(LONG)), start.elapsed())
    });
    run(set.unlock()).unwrap();
    run(set_calls.unlock()).unwrap();
    let (refused, took) = late.join().unwrap();
    assert_eq!(refused, Err(Refused::NotNow));
    assert!(took < LONG / 2, "it waited for the tree: {took:?}");
    let serving = run(set.snapshot()).unwrap();
    assert!(serving.tree && !serving.locked);
}

#[test]
fn retired_supervisor_stays_registered_and_stores_the_exit_status() {
    let scratch = Scratch::new("retires");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    run(set_calls.supervise_tree(LONG)).unwrap();
    run(set.unlock()).unwrap();
    run(set_calls.retire(Lock::Release, Some(Ended::Killed(9)))).unwrap();
    let left = run(set.snapshot()).unwrap();
    assert_eq!(left.ended, Some(Ended::Killed(9)));
    assert!(!left.locked && !left.tree && left.supervised);
    assert_eq!(
        run(set_calls.wait_idle_retired(&until(SOON))),
        Err(Refused::NotNow),
        "a client holds the service"
    );
    run(set.wait_tree_exited()).unwrap();

    run(set.pin()).unwrap();
    assert!(run(set.leave_pinned()).unwrap());
    assert_eq!(
        run(set_calls.wait_idle_retired(&until(SOON))),
        Err(Refused::NotNow),
        "the service is pinned"
    );
    assert!(run(set.unpin()).unwrap());
    run(set_calls.wait_idle_retired(&until(LONG))).unwrap();
    assert!(run(set.snapshot()).unwrap().locked);
}

#[test]
fn retired_supervisor_wakes_when_there_is_another_supervisor() {
    let scratch = Scratch::new("replaced");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    run(set_calls.supervise()).unwrap();
    let retired = thread::spawn(move || {
        let start = Instant::now();
        (
            run(set_calls.wait_idle_retired(&until(LONG))),
            start.elapsed(),
        )
    });
    while run(scratch.raw().sleepers(slot::REFS)).unwrap() == 0 {
        thread::yield_now();
    }
    run(set_calls.supervise_tree(LONG)).unwrap();
    let (woken, took) = retired.join().unwrap();
    assert_eq!(woken, Err(Refused::Gone));
    assert!(took < LONG / 2, "it slept for {took:?}");
    // It does not sleep at all if it is late.
    assert_eq!(
        run(set_calls.wait_idle_retired(&until(LONG))),
        Err(Refused::Gone)
    );
}

#[test]
fn supervisor_unregisters_only_beside_another_one() {
    let scratch = Scratch::new("unregisters");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    run(set_calls.supervise()).unwrap();
    assert_eq!(run(set_calls.unregister()), Err(Refused::NotNow));
    assert!(run(set.snapshot()).unwrap().supervised);
    run(set_calls.supervise()).unwrap();
    run(set_calls.unregister()).unwrap();
    assert!(run(set.snapshot()).unwrap().supervised);
    assert_eq!(run(set_calls.unregister()), Err(Refused::NotNow));
}

#[test]
fn supervisor_publishes_and_removes_as_a_client_does() {
    let scratch = Scratch::new("publishes");
    let set = entered(&scratch);
    let set_calls = set.array().signal_safe();
    run(set_calls.publish(Some(&instance(7)), 5)).unwrap();
    // A second publication of the same values does not wait for zero.
    run(set_calls.publish(Some(&instance(7)), 5)).unwrap();
    let read = run(set_calls.snapshot()).unwrap();
    assert_eq!((read.instance, read.generation), (Some(instance(7)), 5));
    assert_eq!(read, run(set.snapshot()).unwrap());
    run(set_calls.publish(None, 5)).unwrap();
    assert_eq!(run(set.snapshot()).unwrap().instance, None);
    run(set_calls.remove()).unwrap();
    assert!(!scratch.exists());
    assert_eq!(run(set_calls.snapshot()), Err(Refused::Gone));
    assert_eq!(run(set_calls.unlock()), Err(Refused::Gone));
    assert_eq!(run(set_calls.wait_idle(&until(LONG))), Err(Refused::Gone));
}

#[test]
fn survey_returns_claimed_names_of_this_namespace() {
    let survey = |scratch: &Scratch| SystemV.survey(&scratch.key.namespace).unwrap();
    let (one, two) = (Scratch::new("survey-one"), Scratch::new("survey-two"));
    let _blank = two.open();
    let digest = |scratch: &Scratch| scratch.key.digests().1;
    assert!(!survey(&one).contains(&digest(&one)));
    let _claimed = entered(&one);
    let found = survey(&one);
    assert!(found.contains(&digest(&one)));
    assert!(!found.contains(&digest(&two)), "it is not claimed");
    let elsewhere = Namespace::new(
        PathBuf::from("/nowhere/else"),
        (0, 0),
        process::view().expect("this process can share services"),
    );
    assert!(!SystemV.survey(&elsewhere).unwrap().contains(&digest(&one)));
}

#[test]
fn survey_reads_only_own_sets_of_the_right_size() {
    let line = |mode: &str, slots: &str, uid: &str| {
        let line = format!(" -7 42 {mode} {slots} {uid} 0 0 0 1700000000 0");
        survey::candidate(&line, 1000)
    };
    assert_eq!(line("600", "130", "1000"), Some(42));
    for (mode, slots, uid) in [
        ("660", "130", "1000"),
        ("606", "130", "1000"),
        ("600", "127", "1000"),
        ("600", "130", "0"),
        ("600", "130", "x"),
    ] {
        assert_eq!(line(mode, slots, uid), None, "{mode} {slots} {uid}");
    }
    assert_eq!(survey::candidate("", 1000), None);
    assert_eq!(survey::candidate("1 2 600 130", 1000), None);
}

#[test]
fn object_name_is_the_key_as_shown_by_ipcs() {
    let scratch = Scratch::new("name");
    let name = SystemV::object_name(&scratch.key);
    let digits = name.strip_prefix("0x").unwrap();
    let key = u32::from_str_radix(digits, 16).unwrap();
    assert_eq!((key as i32, digits.len()), (scratch.key.short(), 8));
}
