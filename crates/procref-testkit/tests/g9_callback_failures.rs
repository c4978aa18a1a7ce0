//! G9: a callback that fails, panics or is cancelled leaves the lock free and
//! the count right.

use procref_testkit::protocol::{
    Callback, Command, Event, Gate, HealthOutcome, Outcome, Reply, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, scene};

/// Neither lucky nor swallowed.
#[track_caller]
fn assert_failed(reply: &Reply) {
    match reply {
        Reply::Failed(_) | Reply::Panicked(_) | Reply::Cancelled => {}
        reply => panic!("{reply:?}"),
    }
}

/// On Windows, where to start a process takes long, not every way is tried with every outcome.
const VIA: &[Via] = if cfg!(windows) {
    &[Via::TokioMulti, Via::Blocking]
} else {
    &Via::ALL
};

fn bad_outcomes() -> [Outcome; 4] {
    [
        Outcome::Fail("no".to_owned()),
        Outcome::Panic,
        Outcome::PanicAtCall,
        Outcome::DeadPid,
    ]
}

#[test]
fn g9_acquire_works_in_the_same_process_after_a_failed_start() {
    for bad in bad_outcomes() {
        for &via in VIA {
            let scene = scene!();
            let spec = scene.service("again");
            let client = scene.client(&spec.with_starts([bad.clone(), Outcome::Serve]));
            let pending = client.begin_acquire(via);
            assert_failed(&client.reply(pending));
            let held = client.acquire_via(via);
            assert_eq!(client.count(), 1);
            client.release_via(&held, via);
            scene.assert_clean();
        }
    }
}

/// Another client holds the service, which is dead, while this one fails to
/// recover it.
fn recovery_fails(recover: &[Outcome], fail: impl Fn(&Actor) -> Reply) {
    let scene = scene!();
    let spec = scene.service("ill");
    let holder = scene.client(&spec);
    let key = holder.build_as(1, &spec);
    let held = holder.acquire();
    let service = scene.only_instance();
    service.kill();
    service.wait_exit();

    let gates = [Gate::Before(Callback::Recover)];
    let client = scene.client(
        &spec
            .clone()
            .with_recoveries(recover.to_vec())
            .with_gates(gates),
    );
    assert_failed(&fail(&client));
    scene.assert_free(key, 1);

    client.proceed(gates[0]);
    let again = client.acquire();
    assert_eq!(again.got.pid, scene.only_instance().pid);
    scene.assert_free(key, 2);
    client.release(&again);
    holder.release(&held);
}

#[test]
fn g9_failed_recovery_leaves_the_lock_free_and_the_count_right() {
    for bad in bad_outcomes() {
        for &via in VIA {
            recovery_fails(&[bad.clone(), Outcome::Serve], |client| {
                client.proceed(Gate::Before(Callback::Recover));
                let pending = client.begin_acquire(via);
                client.reply(pending)
            });
        }
    }
}

/// The process that fails to recover the service holds it itself: it keeps
/// what it has, and what it has can be given back.
#[test]
fn g9_failed_recovery_keeps_the_handles_of_its_process() {
    for bad in bad_outcomes() {
        let scene = scene!();
        let spec = scene.service("ill").with_recoveries([bad, Outcome::Serve]);
        let client = scene.client(&spec);
        let key = client.build_as(1, &spec);
        let held = [client.acquire(), client.acquire()];
        let service = scene.only_instance();
        service.kill();
        service.wait_exit();
        let pending = client.begin_acquire(Via::TokioMulti);
        assert_failed(&client.reply(pending));
        scene.assert_free(key, 1);
        client.release(&held[0]);
        scene.assert_free(key, 1);
        let new = client.acquire();
        assert_eq!(new.got.pid, scene.only_instance().pid);
        scene.assert_free(key, 1);
        client.release(&held[1]);
        client.release(&new);
    }
}

/// It has been published by then. References remain, the recovering process's own or another's; no
/// instance, no record, no lock.
#[test]
#[cfg(target_os = "linux")]
fn g9_unhealthy_recovered_instance_is_stopped_and_cleared() {
    for own in [false, true] {
        let scene = scene!();
        let spec = scene.service("ill");
        let (holder, key) = scene.holder(&spec);
        let service = scene.only_instance();
        service.kill();
        service.wait_exit();
        let actor = scene.actor();
        let client = if own { &holder } else { &actor };
        let sick = spec.clone().with_recoveries([Outcome::Serve]);
        client.build_as(1, &sick.with_health(HealthOutcome::Always(false)));
        let pending = client.begin_acquire_of(1, Via::TokioMulti);
        assert_failed(&client.reply(pending));
        scene.assert_free(key, 1);
        assert_eq!(scene.living(), []);
        // The record keeps the name for the client that still holds the service, and names no process.
        assert_eq!(scene.files(), scene.records());
        let record = std::fs::read_to_string(&scene.records()[0]).expect("read the record");
        assert!(record.contains("\"pid\": 0,"), "{record}");
        assert_eq!(holder.status().state, "Absent");
        holder.kill();
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g9_cancelled_recovery_leaves_the_lock_free_and_count_right() {
    for via in [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster] {
        recovery_fails(&[Outcome::Serve], |client| {
            let pending = client.begin_acquire(via);
            client.event(&Event::Running(Callback::Recover));
            assert!(client.cancel(pending));
            client.event(&Event::Dropped(Callback::Recover));
            Reply::Cancelled
        });
    }
}

#[test]
fn g9_start_cancelled_after_the_spawn_leaves_the_count_right() {
    // What the callback has started by then is the callback's to clean up; but
    // the lock and the count are procref's.
    let scene = scene!();
    let gate = Gate::After(Callback::Start);
    let spec = scene.service("cancelled");
    let client = scene.client(&spec.clone().with_gates([gate]));
    let pending = client.begin_acquire(Via::TokioMulti);
    let abandoned = client.wait_served();
    assert!(client.cancel(pending));
    client.event(&Event::Dropped(Callback::Start));
    assert_eq!(client.count(), 0);
    abandoned.kill();
    abandoned.wait_exit();
    let next = scene.client(&spec);
    let held = next.acquire();
    next.release(&held);
}

/// A waiter is cancelled in each of its ways; the start that it waited for
/// goes on, and nothing of the waiter is left.
#[test]
fn g9_cancelled_waiter_leaves_the_start_running() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("slow");
    let starter = scene.client(&spec.clone().with_gates([gate]));
    let key = starter.build_as(1, &spec);
    let starting = starter.begin_acquire(Via::TokioMulti);
    starter.event(&Event::Running(Callback::Start));
    let waiter = scene.client(&spec);
    for via in [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster] {
        let waiting = waiter.begin_acquire(via);
        scene.wait_sleepers(key, 1);
        assert!(waiter.cancel(waiting));
    }
    starter.proceed(gate);
    let held = starter.finish_acquire(starting).expect("acquire");
    scene.assert_free(key, 1);
    assert_eq!(scene.calls("on_first_acquire"), 1);
    starter.release(&held);
    scene.assert_clean();
}

/// The cancellation and the end of the wait come at the same time, many times:
/// the wait may win the lock for a caller who is gone.
#[test]
fn g9_cancellation_racing_the_end_of_a_wait_keeps_the_count() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let failing = [Outcome::Fail("no".to_owned())];
    let spec = scene
        .service("raced")
        .with_starts(failing)
        .with_gates([gate]);
    let starter = scene.client(&spec);
    let key = starter.build_as(1, &scene.service("raced"));
    let waiter = scene.client(&scene.service("raced"));
    let mut cancelled = 0;
    // To start a process takes long on Windows.
    let rounds = if cfg!(windows) { 8 } else { 40 };
    for round in 0..rounds {
        let starting = starter.begin_acquire(Via::Pollster);
        starter.event(&Event::Running(Callback::Start));
        let via = [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster][round % 4];
        let waiting = waiter.begin_acquire(via);
        scene.wait_sleepers(key, 1);
        let (request, proceed) = (waiting.request(), Command::Proceed { service: 0, gate });
        let proceeding = starter.begin(proceed);
        let cancelling = waiter.begin(Command::Cancel { request });
        assert_eq!(starter.reply(proceeding), Reply::Done);
        assert_eq!(waiter.reply(cancelling), Reply::Done);
        assert!(matches!(starter.reply(starting), Reply::Failed(_)));
        match waiter.reply(waiting) {
            Reply::Cancelled => cancelled += 1,
            Reply::Acquired(_) => {
                assert_eq!(waiter.call(Command::DropAll), Reply::Done);
                waiter.build(&scene.service("raced"));
            }
            reply => panic!("{reply:?}"),
        }
        // It may have been cancelled with its service just spawned.
        for service in scene.living() {
            service.kill();
            service.wait_exit();
        }
        let held = waiter.acquire();
        assert_eq!(waiter.count(), 1, "round {round}");
        waiter.release(&held);
        scene.assert_clean();
    }
    assert!(cancelled > 0, "no cancellation ever came in time");
}

#[test]
fn g9_cancelled_or_panicking_health_check_keeps_the_count() {
    let scene = scene!();
    let spec = scene.service("judged");
    let holder = scene.client(&spec);
    let key = holder.build_as(1, &spec);
    let held = holder.acquire();

    let gate = Gate::Before(Callback::Health);
    let client = scene.client(
        &spec
            .clone()
            .with_health(HealthOutcome::Query)
            .with_gates([gate]),
    );
    for via in [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster] {
        let pending = client.begin_acquire(via);
        client.event(&Event::Running(Callback::Health));
        assert!(client.cancel(pending));
        scene.assert_free(key, 1);
    }
    assert_eq!(scene.only_instance().pid, held.got.pid);

    let client = scene.client(&spec.with_health(HealthOutcome::Panic));
    for via in Via::ALL {
        let pending = client.begin_acquire(via);
        let reply = client.reply(pending);
        assert_failed(&reply);
    }
    // Who holds it now does so for good reason only.
    assert_eq!(holder.count(), 1);
    holder.release(&held);
    scene.assert_single_instance();
}

/// Nobody waits for the stop any more; it goes on all the same.
#[test]
fn g9_cancelled_release_still_stops_the_service() {
    for via in [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster] {
        let scene = scene!();
        let gate = Gate::Before(Callback::Stop);
        let spec = scene.service("left").with_stop(StopOutcome::Terminate);
        let client = scene.client(&spec.with_gates([gate]));
        let other = scene.client(&scene.service("left"));
        let held = client.acquire();
        let releasing = client.begin(Command::Release {
            handle: held.handle,
            via,
        });
        client.event(&Event::Running(Callback::Stop));
        assert!(client.cancel(releasing));
        client.proceed(gate);
        // The next one waits for its end, as for any other's.
        let next = other.acquire();
        assert_ne!(next.got.pid, held.got.pid);
        scene.assert_single_instance();
        assert_eq!(scene.stopped().len(), 1, "in an orderly way");
        other.release(&next);
    }
}

#[test]
fn g9_acquire_works_after_a_failed_stop_callback() {
    for stop in [StopOutcome::Fail, StopOutcome::Panic] {
        let scene = scene!();
        let spec = scene.service("stubborn").with_stop_timeout_ms(100);
        let client = scene.client(&spec.with_stop(stop));
        for via in Via::ALL {
            let held = client.acquire_via(via);
            let reply = client.call(Command::Release {
                handle: held.handle,
                via,
            });
            assert_failed(&reply);
            assert_eq!(client.count(), 0);
        }
        scene.assert_single_instance();
    }
}

/// The set names a process that a client does not signal: itself.
#[test]
#[cfg(target_os = "linux")]
fn g9_service_that_cannot_be_stopped_keeps_its_set_unlocked() {
    /// A slot of the set.
    const FLAGS: usize = 23;

    let scene = scene!();
    // Without a supervisor, which has fewer scruples.
    let spec = scene.service("stuck").with_orphans_kept();
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    let service = scene.only_instance();
    let set = procref_testkit::kernel::find(key).expect("the semaphore set exists");
    set.write_instance(client.identity());
    let released = client.call(Command::Release {
        handle: held.handle,
        via: Via::Pollster,
    });
    assert_failed(&released);
    scene.assert_free(key, 0);
    // Nor before a start, of which nothing is left then either.
    set.set_value(FLAGS, 0).expect("write");
    let pending = client.begin_acquire(Via::Pollster);
    assert_failed(&client.reply(pending));
    scene.assert_free(key, 0);
    assert_eq!(scene.started(), [service]);
    // Without it the record tells who lives.
    set.remove().expect("remove");
    client.release(&client.acquire());
    assert!(!service.is_live());
    scene.assert_clean();
}

#[test]
fn g9_starts_that_fail_in_turn_leave_nothing() {
    let scene = scene!();
    let bad: Vec<_> = (0..5)
        .map(|n| Outcome::Fail(format!("attempt {n}")))
        .collect();
    let clients = many_failing(&scene, &bad);
    let begun: Vec<_> = clients
        .iter()
        .map(|client| client.begin_acquire(Via::Pollster))
        .collect();
    for (client, pending) in clients.iter().zip(begun) {
        assert_failed(&client.reply(pending));
    }
    assert_eq!(scene.calls("on_first_acquire"), clients.len());
    scene.assert_clean();
}

fn many_failing(scene: &Scene, outcomes: &[Outcome]) -> Vec<Actor> {
    outcomes
        .iter()
        .map(|outcome| scene.client(&scene.service("doomed").with_starts([outcome.clone()])))
        .collect()
}

/// A start that is taken back, by a callback that fails at that, too.
#[test]
fn g9_unhealthy_start_with_a_failing_stop_callback_cleans_up() {
    for keep in [false, true] {
        let scene = scene!();
        let mut spec = scene
            .service("hopeless")
            .with_stop_timeout_ms(300)
            .with_health(HealthOutcome::Always(false))
            .with_stop(StopOutcome::Fail);
        spec.keep_orphan = keep;
        let client = scene.client(&spec);
        let failure = client
            .try_acquire(Via::TokioMulti)
            .expect_err("the instance is unhealthy");
        assert!(failure.text.contains("not healthy"), "{failure:?}");
        assert_eq!(scene.calls("on_last_release"), 1);
        scene.assert_clean();
    }
}
