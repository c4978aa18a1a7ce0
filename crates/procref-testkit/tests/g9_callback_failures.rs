//! G9: after a callback fails, panics or is cancelled, the lock is free and the count is right.

use procref_testkit::protocol::{
    Callback, Command, Event, Gate, HealthOutcome, Outcome, Reply, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, scene};

/// Asserts that the operation did not succeed.
#[track_caller]
fn assert_failed(reply: &Reply) {
    match reply {
        Reply::Failed(_) | Reply::Panicked(_) | Reply::Cancelled => {}
        reply => panic!("{reply:?}"),
    }
}

/// The runtimes to test. Windows has fewer of them, because starting a process takes long there.
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

/// Asserts that a failed recovery leaves the lock free and the count right while another client
/// holds the dead service.
fn assert_recovery_failure_is_clean(recover: &[Outcome], fail: impl Fn(&Actor) -> Reply) {
    let scene = scene!();
    let spec = scene.service("ill");
    let holder = scene.client(&spec);
    let key = holder.build_as(1, &spec);
    let held = holder.acquire();
    scene.kill_only_instance();

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
            assert_recovery_failure_is_clean(&[bad.clone(), Outcome::Serve], |client| {
                client.proceed(Gate::Before(Callback::Recover));
                let pending = client.begin_acquire(via);
                client.reply(pending)
            });
        }
    }
}

/// The process that fails to recover the service also holds it. It keeps its handles and can
/// release them.
#[test]
fn g9_failed_recovery_keeps_the_handles_of_its_process() {
    for bad in bad_outcomes() {
        let scene = scene!();
        let spec = scene.service("ill").with_recoveries([bad, Outcome::Serve]);
        let client = scene.client(&spec);
        let key = client.build_as(1, &spec);
        let held = [client.acquire(), client.acquire()];
        scene.kill_only_instance();
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

/// The health check fails after the instance was published. The references of the recovering
/// process or of another one remain. No instance is published any more, and the lock is free.
#[test]
#[cfg(target_os = "linux")]
fn g9_unhealthy_recovered_instance_is_stopped_and_cleared() {
    for own in [false, true] {
        let scene = scene!();
        let spec = scene.service("ill");
        let (holder, key) = scene.holder(&spec);
        scene.kill_only_instance();
        let actor = scene.actor();
        let client = if own { &holder } else { &actor };
        let unhealthy = spec.clone().with_recoveries([Outcome::Serve]);
        client.build_as(1, &unhealthy.with_health(HealthOutcome::Always(false)));
        let pending = client.begin_acquire_of(1, Via::TokioMulti);
        assert_failed(&client.reply(pending));
        scene.assert_free(key, 1);
        assert_eq!(scene.living(), []);
        // The record keeps the name for the client that still holds the service, but names no
        // process.
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
        assert_recovery_failure_is_clean(&[Outcome::Serve], |client| {
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
    // The callback itself must clean up what it has started. procref is responsible for the lock
    // and the count.
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

/// A waiter is cancelled in each runtime. The start that it waited for continues, and nothing of
/// the waiter is left.
#[test]
fn g9_cancelled_waiter_leaves_the_start_running() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = scene.service("slow");
    let (starter, key, starting) = scene.client_at_gate(&spec, gate, Via::TokioMulti);
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

/// The cancellation and the end of the wait happen at the same time, many times. The wait may take
/// the lock for a caller that no longer exists.
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
    // Starting a process takes long on Windows.
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
        // The waiter may have been cancelled right after it spawned a service.
        for service in scene.living() {
            service.kill();
            service.wait_exit();
        }
        let held = waiter.acquire();
        assert_eq!(waiter.count(), 1, "round {round}");
        waiter.release(&held);
        scene.assert_clean();
    }
    assert!(cancelled > 0, "no cancellation was early enough");
}

#[test]
fn g9_cancelled_or_panicking_health_check_keeps_the_count() {
    let scene = scene!();
    let spec = scene.service("checked");
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
    // Only the first client still holds a reference.
    assert_eq!(holder.count(), 1);
    holder.release(&held);
    scene.assert_single_instance();
}

/// No client waits for the stop any more, but the stop continues.
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
        // The next client waits until the stop ends, as for any other stop.
        let next = other.acquire();
        assert_ne!(next.got.pid, held.got.pid);
        scene.assert_single_instance();
        assert_eq!(scene.stopped().len(), 1, "the service stopped gracefully");
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

/// The set names the client's own process, which the client does not signal.
#[test]
#[cfg(target_os = "linux")]
fn g9_service_that_cannot_be_stopped_keeps_its_set_unlocked() {
    /// Slot of the flags in the set.
    const FLAGS: usize = 23;

    let scene = scene!();
    // The service has no supervisor, because a supervisor would signal that process.
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
    // A start cannot stop it either, and leaves nothing.
    set.set_value(FLAGS, 0).expect("write");
    let pending = client.begin_acquire(Via::Pollster);
    assert_failed(&client.reply(pending));
    scene.assert_free(key, 0);
    assert_eq!(scene.started(), [service]);
    // Without the set, the record names the live instance.
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
    let clients = clients_with_failing_starts(&scene, &bad);
    let requests: Vec<_> = clients
        .iter()
        .map(|client| client.begin_acquire(Via::Pollster))
        .collect();
    for (client, pending) in clients.iter().zip(requests) {
        assert_failed(&client.reply(pending));
    }
    assert_eq!(scene.calls("on_first_acquire"), clients.len());
    scene.assert_clean();
}

fn clients_with_failing_starts(scene: &Scene, outcomes: &[Outcome]) -> Vec<Actor> {
    outcomes
        .iter()
        .map(|outcome| scene.client(&scene.service("doomed").with_starts([outcome.clone()])))
        .collect()
}

/// The new instance is unhealthy, and the callback that stops it fails, too.
#[test]
fn g9_unhealthy_start_with_a_failing_stop_callback_cleans_up() {
    for keep_orphan in [false, true] {
        let scene = scene!();
        let mut spec = scene
            .service("hopeless")
            .with_stop_timeout_ms(300)
            .with_health(HealthOutcome::Always(false))
            .with_stop(StopOutcome::Fail);
        spec.keep_orphan = keep_orphan;
        let client = scene.client(&spec);
        let failure = client
            .try_acquire(Via::TokioMulti)
            .expect_err("the instance is unhealthy");
        assert!(failure.text.contains("not healthy"), "{failure:?}");
        assert_eq!(scene.calls("on_last_release"), 1);
        scene.assert_clean();
    }
}
