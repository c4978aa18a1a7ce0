//! A client can follow a service without polling. `current` returns the instance that is ready now.
//! `wait_dead` returns when the handle's instance dies. `wait_stopped` returns when the service
//! stops.

#![cfg(target_os = "linux")]

use std::fs;

use procref_testkit::actor::Held;
use procref_testkit::protocol::{
    Callback, Command, Event, Failure, Gate, HealthOutcome, Outcome, ReadyOutcome, Reply,
    StopOutcome, Variant, Via,
};
use procref_testkit::{Actor, deadline, kernel, scene};

const START: Gate = Gate::Before(Callback::Start);

/// Slot of the pin. Processes that wait for the removal of the set sleep on it.
const PIN: usize = 4;

#[track_caller]
fn current_pid(client: &Actor, held: &Held) -> Option<u32> {
    let current = client.current(held).expect("get the current instance");
    current.map(|current| current.pid)
}

/// Counts the library's threads in an actor, without timers.
fn library_threads(client: &Actor) -> usize {
    client.identity().threads_named("procref")
}

#[track_caller]
fn wait_library_threads(client: &Actor, count: usize) {
    deadline::until_true("the library's threads", || library_threads(client) == count);
}

/// Waits until `count` processes wait for the removal of the set.
#[track_caller]
fn wait_for_waiters(key: i32, count: u32) {
    deadline::until_true("processes wait for the removal", || {
        kernel::find(key).is_some_and(|set| set.sleepers(PIN).unwrap_or(0) == count)
    });
}

#[track_caller]
fn assert_refused_in_forked_child(failure: &Failure) {
    assert_eq!(failure.variant, Some(Variant::NoReference), "{failure:?}");
    assert!(failure.text.contains("forked child"), "{failure:?}");
}

#[test]
fn current_follows_an_instance_restarted_by_another_process() {
    let scene = scene!();
    let named = |name: &str| {
        let mut spec = scene.service("followed");
        spec.metadata = vec![("name".to_owned(), name.to_owned())];
        spec
    };
    let one = scene.client(&named("first"));
    let held = one.acquire();
    assert_eq!(current_pid(&one, &held), Some(held.got.pid));
    let old = scene.kill_only_instance().pid;
    assert_eq!(current_pid(&one, &held), None, "the instance is dead");

    let ready = Gate::Before(Callback::OnReady);
    let spec = named("second").with_on_ready([ReadyOutcome::Pass]);
    let two = scene.client(&spec.with_gates([START, ready]));
    let starting = two.begin_acquire(Via::TokioMulti);
    two.event(&Event::Running(Callback::Start));
    assert_eq!(
        current_pid(&one, &held),
        None,
        "the new instance is starting"
    );
    two.proceed(START);
    two.event(&Event::Running(Callback::OnReady));
    assert_eq!(
        current_pid(&one, &held),
        None,
        "the new instance is not ready"
    );
    two.proceed(ready);
    let new = two.finish_acquire(starting).expect("acquire");
    let current = one
        .current(&held)
        .expect("get the current instance")
        .expect("an instance is ready");
    assert_eq!(current.pid, new.got.pid);
    assert_eq!(current.metadata, named("second").metadata);
    assert_eq!(current_pid(&two, &new), Some(new.got.pid));

    // A process does not read the record again for an instance that it has seen.
    for file in scene.files() {
        fs::remove_file(file).expect("remove the record");
    }
    let known = two
        .current(&new)
        .expect("get the current instance")
        .expect("an instance is ready");
    assert_eq!(known.metadata, named("second").metadata);
    let again = one.acquire();
    assert_eq!(current_pid(&one, &held), Some(again.got.pid));
    assert_ne!(again.got.pid, old);

    scene.kill_only_instance();
    assert_eq!(current_pid(&one, &again), None);
    one.release(&again);
    one.release(&held);
    two.release(&new);
}

#[test]
fn current_finds_a_service_whose_set_was_recreated() {
    let scene = scene!();
    let spec = scene.service("removed");
    let one = scene.actor();
    let key = one.build(&spec);
    let held = one.acquire();
    kernel::find(key)
        .expect("the semaphore set exists")
        .remove()
        .expect("remove");
    assert_eq!(current_pid(&one, &held), None, "no instance is published");
    let two = scene.client(&spec);
    let new = two.acquire();
    assert_eq!(current_pid(&one, &held), Some(new.got.pid));
    // `current` takes no reference.
    assert_eq!(two.count(), 1);
    one.release(&held);
    assert_eq!(two.count(), 1);
    two.release(&new);
    scene.assert_clean();
}

#[test]
fn death_wakes_all_waiters_of_a_process_through_one_thread() {
    for via in [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster] {
        let scene = scene!();
        let client = scene.client(&scene.service("mortal"));
        let held = [client.acquire(), client.acquire()];
        let waiting: Vec<_> = held
            .iter()
            .map(|held| client.begin_wait_dead(held, 10, via))
            .collect();
        wait_library_threads(&client, 1);
        // Dropped futures leave the thread to later futures.
        for round in 0..5 {
            let dropped = client.begin_wait_dead(&held[round % 2], 10, via);
            assert!(client.cancel(dropped));
        }
        assert_eq!(library_threads(&client), 1);
        for pending in &waiting {
            assert!(!client.has_replied(pending));
        }
        scene.kill_only_instance();
        for pending in waiting {
            client.finish_wait(pending);
        }
        wait_library_threads(&client, 0);
        // A wait now returns immediately.
        let pending = client.begin_wait_dead(&held[0], 1, via);
        client.finish_wait(pending);
        held.iter().for_each(|held| client.release(held));
    }
}

#[test]
fn dropped_death_waits_leave_one_thread_until_the_death() {
    let scene = scene!();
    let client = scene.client(&scene.service("mortal"));
    let held = client.acquire();
    for _ in 0..20 {
        let dropped = client.begin_wait_dead(&held, 3, Via::TokioMulti);
        assert!(client.cancel(dropped));
    }
    assert!(library_threads(&client) <= 1);
    let waiting = client.begin_wait_dead(&held, 1, Via::Smol);
    wait_library_threads(&client, 1);
    scene.kill_only_instance();
    client.finish_wait(waiting);
    wait_library_threads(&client, 0);
    client.release(&held);
}

#[test]
fn blocking_death_wait_respects_its_time_limit() {
    let scene = scene!();
    let client = scene.client(&scene.service("mortal"));
    let held = client.acquire();
    for _ in 0..3 {
        let short = client.call(Command::WaitDead {
            handle: held.handle,
            count: 1,
            limit_ms: 20,
            via: Via::Blocking,
        });
        assert_eq!(short, Reply::Flag(false));
    }
    assert_eq!(library_threads(&client), 1);
    let waiting = client.begin_wait_dead(&held, 1, Via::Blocking);
    scene.kill_only_instance();
    client.finish_wait(waiting);
    client.release(&held);
}

/// The wait is for the death of one instance, not for the death of any later instance.
#[test]
fn death_wait_of_a_handle_is_for_its_own_instance() {
    let scene = scene!();
    let spec = scene.service("mortal");
    let one = scene.client(&spec);
    let first = one.acquire();
    scene.kill_only_instance();
    let second = one.acquire();
    let waiting = one.begin_wait_dead(&second, 2, Via::TokioMulti);
    let at_once = one.begin_wait_dead(&first, 2, Via::TokioMulti);
    one.finish_wait(at_once);
    wait_library_threads(&one, 1);
    assert!(!one.has_replied(&waiting));
    scene.kill_only_instance();
    one.finish_wait(waiting);
    one.release(&first);
    one.release(&second);
}

#[test]
fn death_wait_fails_for_a_service_without_a_process() {
    let scene = scene!();
    let spec = scene
        .service("remote")
        .with_starts([Outcome::Pid(0)])
        .with_health(HealthOutcome::Always(true))
        .with_stop(StopOutcome::Nothing);
    let client = scene.client(&spec);
    let held = client.acquire();
    assert_eq!(current_pid(&client, &held), Some(0));
    let waiting = client.begin_wait_dead(&held, 1, Via::Pollster);
    match client.reply(waiting) {
        Reply::Failed(failure) => {
            for text in ["`remote`", "pid 0", "health check"] {
                assert!(failure.text.contains(text), "{failure:?}");
            }
        }
        reply => panic!("{reply:?}"),
    }
    client.release(&held);
}

#[test]
fn g8_forked_child_cannot_follow_with_its_parents_handle() {
    let scene = scene!();
    let client = scene.client(&scene.service("forked"));
    let held = client.acquire();
    let waiting = client.begin_wait_dead(&held, 1, Via::Smol);
    wait_library_threads(&client, 1);
    let child = client.fork();
    assert_refused_in_forked_child(&child.current(&held).expect_err("the handle is a copy"));
    let pending = child.begin_wait_dead(&held, 1, Via::Pollster);
    match child.reply(pending) {
        Reply::Failed(failure) => assert_refused_in_forked_child(&failure),
        reply => panic!("{reply:?}"),
    }
    // With its own handle the child can wait.
    let own = child.acquire_via(Via::Pollster);
    let child_wait = child.begin_wait_dead(&own, 1, Via::Pollster);
    let end = child.begin_wait_stopped(1, Via::Pollster);
    wait_library_threads(&child, 2);
    scene.kill_only_instance();
    child.finish_wait(child_wait);
    client.finish_wait(waiting);
    client.release(&held);
    child.release_via(&own, Via::Pollster);
    child.finish_wait(end);
    scene.assert_clean();
}

#[test]
fn stop_wakes_all_processes_that_wait_for_it() {
    for killed in [false, true] {
        let scene = scene!();
        let spec = scene.service("ending");
        let holders = scene.clients(2, &spec);
        let held: Vec<_> = holders.iter().map(Actor::acquire).collect();
        let watchers = scene.clients(5, &spec);
        let key = watchers[0].build_as(1, &spec);
        let waiting: Vec<_> = watchers
            .iter()
            .zip(Via::ALL)
            .map(|(watcher, via)| watcher.begin_wait_stopped(8, via))
            .collect();
        wait_for_waiters(key, 5);
        for watcher in &watchers {
            assert_eq!(library_threads(watcher), 1);
        }
        assert_eq!(
            watchers[0].count(),
            2,
            "a waiting process holds no reference"
        );
        holders[0].release(&held[0]);
        // A recovery does not end the wait.
        scene.kill_only_instance();
        let again = holders[1].acquire();
        for (watcher, pending) in watchers.iter().zip(&waiting) {
            assert!(!watcher.has_replied(pending));
        }
        wait_for_waiters(key, 5);
        if killed {
            holders[1].kill();
        } else {
            holders[1].release(&held[1]);
            holders[1].release(&again);
        }
        for (watcher, pending) in watchers.iter().zip(waiting) {
            watcher.finish_wait(pending);
            wait_library_threads(watcher, 0);
        }
        // The wait ends only after everything is removed.
        scene.assert_clean();
    }
}

#[test]
fn stop_wait_returns_at_once_without_a_service() {
    let scene = scene!();
    let client = scene.actor();
    let key = client.build(&scene.service("none"));
    for via in Via::ALL {
        let pending = client.begin_wait_stopped(3, via);
        client.finish_wait(pending);
    }
    assert_eq!((kernel::find(key), library_threads(&client)), (None, 0));
}

#[test]
fn stop_wait_does_not_end_during_a_first_start() {
    for outcome in [Outcome::Serve, Outcome::Fail("no".to_owned())] {
        let scene = scene!();
        let spec = scene.service("starting").with_starts([outcome.clone()]);
        let (starter, key, starting) = scene.client_at_gate(&spec, START, Via::TokioMulti);
        let watcher = scene.client(&spec);
        let waiting = watcher.begin_wait_stopped(2, Via::TokioCurrent);
        wait_for_waiters(key, 1);
        assert!(!watcher.has_replied(&waiting));
        starter.proceed(START);
        if let Ok(held) = starter.finish_acquire(starting) {
            assert_eq!(outcome, Outcome::Serve);
            wait_for_waiters(key, 1);
            starter.release(&held);
        }
        watcher.finish_wait(waiting);
        scene.assert_clean();
    }
}

#[test]
fn blocking_stop_wait_respects_its_time_limit() {
    let scene = scene!();
    let spec = scene.service("ending");
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    for _ in 0..3 {
        let short = client.call(Command::WaitStopped {
            service: 0,
            count: 1,
            limit_ms: 20,
            via: Via::Blocking,
        });
        assert_eq!(short, Reply::Flag(false));
        let dropped = client.begin_wait_stopped(4, Via::TokioMulti);
        assert!(client.cancel(dropped));
    }
    assert_eq!(library_threads(&client), 1);
    wait_for_waiters(key, 1);
    // The client that holds the service may wait, too.
    let waiting = client.begin_wait_stopped(1, Via::TokioMulti);
    client.release(&held);
    client.finish_wait(waiting);
    // A new wait is for the next service, not for the one that has stopped.
    let held = client.acquire();
    let waiting = client.begin_wait_stopped(1, Via::TokioMulti);
    wait_for_waiters(key, 1);
    assert!(!client.has_replied(&waiting));
    client.release(&held);
    client.finish_wait(waiting);
}

#[test]
fn stop_wait_ends_when_a_pinned_service_is_unpinned() {
    let scene = scene!();
    let spec = scene.service("pinned");
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    client.pin(&held);
    client.kill();
    let watcher = scene.client(&spec);
    let waiting = watcher.begin_wait_stopped(1, Via::Smol);
    // The supervisor sleeps on the same slot.
    wait_for_waiters(key, 2);
    assert!(!watcher.has_replied(&waiting));
    assert!(watcher.unpin(Via::TokioMulti));
    watcher.finish_wait(waiting);
    scene.assert_clean();
}

/// No process removes the leftovers of a dead orphan before a client acquires the service again.
#[test]
fn stop_wait_returns_at_once_for_a_dead_orphan() {
    let scene = scene!();
    let spec = scene.service("orphan").with_orphans_kept();
    let client = scene.actor();
    let key = client.build(&spec);
    client.acquire();
    client.kill();
    let watcher = scene.client(&spec);
    let waiting = watcher.begin_wait_stopped(1, Via::Pollster);
    wait_for_waiters(key, 1);
    assert!(!watcher.has_replied(&waiting), "the orphan is alive");
    scene.kill_only_instance();
    let late = scene.client(&spec);
    let at_once = late.begin_wait_stopped(1, Via::Blocking);
    late.finish_wait(at_once);
    let adopter = late.acquire();
    late.release(&adopter);
    watcher.finish_wait(waiting);
    scene.assert_clean();
}

/// The client that holds a dead service may restart it. If not, the client cleans up when it
/// releases.
#[test]
fn stop_wait_continues_while_a_client_holds_a_dead_service() {
    let scene = scene!();
    // The service has no supervisor, because a supervisor would also prevent the end of the wait.
    let spec = scene.service("held").with_orphans_kept();
    let holder = scene.actor();
    let key = holder.build(&spec);
    let held = holder.acquire();
    scene.kill_only_instance();
    let watcher = scene.client(&spec);
    let waiting = watcher.begin_wait_stopped(1, Via::TokioMulti);
    wait_for_waiters(key, 1);
    assert!(!watcher.has_replied(&waiting));
    holder.release(&held);
    watcher.finish_wait(waiting);
    scene.assert_clean();
}
