//! `RefCounter` and `PlatformRefCounter` without a service, used by many processes.

#![cfg(target_os = "linux")]

use std::sync::Mutex;

use procref::{PlatformRefCounter, RefCounter};
use procref_testkit::protocol::{Command, CounterOp, Death, Reply, Via};
use procref_testkit::{Actor, Scene, kernel, scene};

use CounterOp::{Acquire, Count, Release, TryLock, Unlock};

/// Slots with the digest of a service's name.
const NAME: std::ops::Range<usize> = 10..14;

/// Returns actors that have opened counter 0 with this name, and the key of its set, which the
/// scene watches.
fn counters(scene: &Scene, number: usize, name: &str) -> (Vec<Actor>, i32) {
    let actors = scene.actors(number);
    let mut key = 0;
    for actor in &actors {
        key = actor.build(&scene.service(name));
        actor.counter(0, name);
    }
    (actors, key)
}

/// Runs `op` in all actors at the same time, and returns the sorted results.
fn count_in_all(actors: &[Actor], op: CounterOp) -> Vec<u32> {
    let requests: Vec<_> = actors
        .iter()
        .map(|actor| actor.begin(Command::CounterOp { counter: 0, op }))
        .collect();
    let mut counts: Vec<_> = actors
        .iter()
        .zip(requests)
        .map(|(actor, pending)| match actor.reply(pending) {
            Reply::Count(count) => count,
            reply => panic!("{op:?}: {reply:?}"),
        })
        .collect();
    counts.sort_unstable();
    counts
}

#[track_caller]
fn assert_refused(reply: &Reply, part: &str) {
    match reply {
        Reply::Failed(failure) => assert!(failure.whole().contains(part), "{failure:?}"),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn counter_returns_a_distinct_count_to_each_client() {
    let scene = scene!();
    let (actors, _) = counters(&scene, 12, "concurrent");
    for _ in 0..20 {
        // Each call returns the value after the call, so each client gets another value.
        assert_eq!(count_in_all(&actors, Acquire), (1..=12).collect::<Vec<_>>());
        assert_eq!(actors[0].counter_op(0, Count), Reply::Count(12));
        assert_eq!(count_in_all(&actors, Release), (0..12).collect::<Vec<_>>());
        scene.assert_clean();
    }
}

#[test]
fn g6_count_without_references_creates_nothing() {
    let scene = scene!();
    let (actors, key) = counters(&scene, 1, "unborn");
    assert_eq!(actors[0].counter_op(0, Count), Reply::Count(0));
    assert_eq!(kernel::find(key), None);
}

#[test]
fn release_or_unlock_without_holding_is_an_error() {
    let scene = scene!();
    let (actors, _) = counters(&scene, 2, "honest");
    let (one, two) = (&actors[0], &actors[1]);
    assert_refused(&one.counter_op(0, Release), "release");
    assert_refused(&one.counter_op(0, Unlock), "unlock");
    assert_eq!(two.counter_op(0, Acquire), Reply::Count(1));
    assert_refused(&one.counter_op(0, Release), "release");
    assert_eq!(one.counter_op(0, Acquire), Reply::Count(2));
    assert_eq!(one.counter_op(0, Release), Reply::Count(1));
    assert_refused(&one.counter_op(0, Release), "release");
    assert_eq!(two.counter_op(0, TryLock), Reply::Flag(true));
    assert_refused(&one.counter_op(0, Unlock), "unlock");
    assert_eq!(one.counter_op(0, Count), Reply::Count(1));
    assert_eq!(two.counter_op(0, Unlock), Reply::Done);
    assert_refused(&two.counter_op(0, Unlock), "unlock");
    assert_eq!(two.counter_op(0, Release), Reply::Count(0));
    assert_refused(&two.counter_op(0, Release), "release");
    // This also applies to a lock that was removed with its set.
    for _ in 0..2 {
        assert_eq!(two.counter_op(0, TryLock), Reply::Flag(true));
        assert_eq!(two.counter_op(0, Unlock), Reply::Done);
    }
    assert_refused(&two.counter_op(0, Unlock), "unlock");
}

#[test]
fn counter_lock_has_one_holder() {
    let scene = scene!();
    let (actors, _) = counters(&scene, 8, "locked");
    for actor in &actors {
        actor.counter_op(0, Acquire);
    }
    let requests: Vec<_> = actors
        .iter()
        .map(|actor| {
            actor.begin(Command::CounterOp {
                counter: 0,
                op: TryLock,
            })
        })
        .collect();
    let replies: Vec<_> = actors
        .iter()
        .zip(requests)
        .map(|(actor, pending)| actor.reply(pending))
        .collect();
    let winners: Vec<_> = (0..8)
        .filter(|&i| replies[i] == Reply::Flag(true))
        .collect();
    let losers = replies.iter().filter(|&it| *it == Reply::Flag(false));
    assert_eq!((winners.len(), losers.count()), (1, 7));
    assert_eq!(actors[winners[0]].counter_op(0, Unlock), Reply::Done);
    let next = &actors[(winners[0] + 1) % 8];
    assert_eq!(next.counter_op(0, TryLock), Reply::Flag(true));
    assert_eq!(next.counter_op(0, Unlock), Reply::Done);
    assert_eq!(count_in_all(&actors, Release), (0..8).collect::<Vec<_>>());
}

#[test]
fn counter_acquire_waits_for_the_lock_of_another_process() {
    let scene = scene!();
    let (actors, key) = counters(&scene, 2, "locked");
    let (one, two) = (&actors[0], &actors[1]);
    assert_eq!(one.counter_op(0, TryLock), Reply::Flag(true));
    let waiting = two.begin(Command::CounterOp {
        counter: 0,
        op: Acquire,
    });
    scene.wait_sleepers(key, 1);
    // The process that has the lock does not wait for itself.
    assert_eq!(one.counter_op(0, Acquire), Reply::Count(1));
    assert!(!two.has_replied(&waiting));
    // Another thread of the waiting process does not wait for the waiting thread.
    assert_eq!(two.counter_op(0, TryLock), Reply::Flag(false));
    assert_eq!(one.counter_op(0, Unlock), Reply::Done);
    assert_eq!(two.reply(waiting), Reply::Count(2));
    assert_eq!(one.counter_op(0, Release), Reply::Count(1));
    assert_eq!(two.counter_op(0, Release), Reply::Count(0));
}

#[test]
fn g2_killed_process_loses_its_counter_lock_and_references() {
    for how in [Death::Kill, Death::Exit] {
        let scene = scene!();
        let (actors, key) = counters(&scene, 2, "mortal");
        let (one, two) = (&actors[0], &actors[1]);
        for count in 1..=3 {
            let reply = one.counter_op(0, Acquire);
            assert!(matches!(reply, Reply::Count(_)), "{count}: {reply:?}");
        }
        assert_eq!(one.counter_op(0, TryLock), Reply::Flag(true));
        let waiting = two.begin(Command::CounterOp {
            counter: 0,
            op: Acquire,
        });
        scene.wait_sleepers(key, 1);
        one.die(how);
        assert_eq!(two.reply(waiting), Reply::Count(1));
        assert_eq!(two.counter_op(0, TryLock), Reply::Flag(true));
        assert_eq!(two.counter_op(0, Unlock), Reply::Done);
        assert_eq!(two.counter_op(0, Release), Reply::Count(0));
    }
}

#[test]
fn g8_forked_child_owns_nothing_of_a_counter() {
    let scene = scene!();
    let (actors, _) = counters(&scene, 2, "family");
    let (parent, other) = (&actors[0], &actors[1]);
    assert_eq!(parent.counter_op(0, Acquire), Reply::Count(1));
    let child = parent.fork();
    for op in [Release, Unlock, Acquire] {
        assert_refused(&child.counter_op(0, op), "fork");
    }
    assert_eq!(other.counter_op(0, Count), Reply::Count(1));
    child.counter(1, "family");
    assert_refused(&child.counter_op(1, Release), "release");
    assert_eq!(child.counter_op(1, Acquire), Reply::Count(2));
    child.kill();
    assert_eq!(other.counter_op(0, Count), Reply::Count(1));
    assert_eq!(parent.counter_op(0, Release), Reply::Count(0));
}

#[test]
fn counter_shares_the_references_of_the_service() {
    let scene = scene!();
    let (actors, _) = counters(&scene, 2, "both");
    let (client, counter) = (&actors[0], &actors[1]);
    let held = client.acquire();
    assert_eq!(counter.counter_op(0, Count), Reply::Count(1));
    assert_eq!(counter.counter_op(0, Acquire), Reply::Count(2));
    assert_eq!(client.count(), 2);
    // The counter's reference keeps the service running, and its release, which is the last, stops
    // the service.
    client.release(&held);
    assert_eq!(scene.only_instance().pid, held.got.pid);
    assert_eq!(counter.counter_op(0, Release), Reply::Count(0));
    assert_eq!(scene.stopped(), [(held.got.pid, "signal 15".to_owned())]);
    scene.assert_clean();
}

#[test]
fn counter_in_another_directory_is_separate() {
    let scene = scene!();
    let actor = scene.actor();
    let mut spec = scene.service("elsewhere");
    let dir = scene.root().join("elsewhere");
    spec.dir = Some(dir.clone());
    let key = actor.build(&spec);
    let reply = actor.call(Command::Counter {
        counter: 0,
        name: "elsewhere".to_owned(),
        dir: Some(dir),
    });
    assert_eq!(reply, Reply::Done);
    actor.counter(1, "elsewhere");
    assert_eq!(actor.counter_op(0, Acquire), Reply::Count(1));
    assert!(kernel::find(key).is_some());
    assert_eq!(
        actor.counter_op(1, Count),
        Reply::Count(0),
        "another namespace"
    );
    assert_eq!(actor.counter_op(0, Release), Reply::Count(0));
}

#[test]
fn counter_lock_delays_a_service_start() {
    let scene = scene!();
    let (actors, key) = counters(&scene, 2, "locked");
    let (client, counter) = (&actors[0], &actors[1]);
    assert_eq!(counter.counter_op(0, TryLock), Reply::Flag(true));
    let acquiring = client.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    assert_eq!(scene.calls("on_first_acquire"), 0);
    // The set contains the digest of the name, so that no process treats it as another service's
    // set.
    let set = kernel::find(key).expect("the semaphore set exists");
    assert!(NAME.clone().any(|slot| set.value(slot).expect("read") != 0));
    assert_eq!(counter.counter_op(0, Unlock), Reply::Done);
    let held = client.finish_acquire(acquiring).expect("acquire");
    client.release(&held);
}

/// Only a counter allows a process to have the lock without a reference.
#[test]
fn release_waits_for_a_counter_lock_up_to_the_wait_timeout() {
    let scene = scene!();
    let (actors, _) = counters(&scene, 2, "locked");
    let (client, counter) = (&actors[0], &actors[1]);
    let mut spec = scene.service("locked");
    spec.wait_timeout_ms = Some(200);
    client.build(&spec);
    let held = client.acquire();
    assert_eq!(counter.counter_op(0, TryLock), Reply::Flag(true));
    let released = client.call(Command::Release {
        handle: held.handle,
        via: Via::Pollster,
    });
    assert_refused(&released, "200ms");
    // The client has released its reference anyway. The process that has the lock removes the set.
    assert_eq!(counter.counter_op(0, Count), Reply::Count(0));
    assert_eq!(counter.counter_op(0, Unlock), Reply::Done);
    scene.assert_clean();
}

#[test]
fn dropped_counter_releases_its_references_and_lock() {
    let scene = scene!();
    scene.actor().build(&scene.service("dropped"));
    let counter = || PlatformRefCounter::in_dir("dropped", scene.runtime_dir()).expect("open");
    let (one, two) = (counter(), counter());
    for count in 1..=2 {
        assert_eq!(one.acquire().expect("acquire"), count);
    }
    assert_eq!(two.acquire().expect("acquire"), 3);
    assert!(one.try_lock().expect("lock"));
    drop(one);
    assert_eq!(two.count().expect("count"), 1);
    assert!(two.try_lock().expect("lock"));
    drop(two);
    scene.assert_clean();
}

#[test]
fn g8_dropped_counter_returns_while_another_counter_has_the_lock() {
    let scene = scene!();
    scene.actor().build(&scene.service("held up"));
    let counter = || PlatformRefCounter::in_dir("held up", scene.runtime_dir()).expect("open");
    let (one, two) = (counter(), counter());
    for count in 1..=2 {
        assert_eq!(one.acquire().expect("acquire"), count);
    }
    assert!(two.try_lock().expect("lock"));
    let start = std::time::Instant::now();
    drop(one);
    let time = start.elapsed();
    assert!(time < std::time::Duration::from_secs(25), "{time:?}");
    assert_eq!(
        two.count().expect("count"),
        0,
        "the drop releases both references"
    );
    two.unlock().expect("unlock");
    scene.assert_clean();
}

/// A counter in memory. It shows that users can implement the trait.
#[derive(Default)]
struct InMemory {
    state: Mutex<(u32, bool)>,
}

impl RefCounter for InMemory {
    fn acquire(&self) -> procref::Result<u32> {
        let mut state = self.state.lock().expect("no thread has panicked");
        state.0 += 1;
        Ok(state.0)
    }

    fn release(&self) -> procref::Result<u32> {
        let mut state = self.state.lock().expect("no thread has panicked");
        state.0 = state.0.checked_sub(1).ok_or("nothing to release")?;
        Ok(state.0)
    }

    fn count(&self) -> procref::Result<u32> {
        Ok(self.state.lock().expect("no thread has panicked").0)
    }

    fn try_lock(&self) -> procref::Result<bool> {
        let mut state = self.state.lock().expect("no thread has panicked");
        Ok(!std::mem::replace(&mut state.1, true))
    }

    fn unlock(&self) -> procref::Result<()> {
        let mut state = self.state.lock().expect("no thread has panicked");
        if !std::mem::take(&mut state.1) {
            return Err("not locked".into());
        }
        Ok(())
    }
}

#[test]
fn ref_counter_can_be_implemented_by_users() {
    let counter: Box<dyn RefCounter> = Box::new(InMemory::default());
    assert_eq!(counter.acquire().expect("acquire"), 1);
    assert!(counter.try_lock().expect("try_lock"));
    assert!(!counter.try_lock().expect("try_lock"));
    counter.unlock().expect("unlock");
    assert!(counter.unlock().is_err());
    assert_eq!(counter.release().expect("release"), 0);
    assert!(counter.release().is_err());
    assert_eq!(counter.count().expect("count"), 0);
}
