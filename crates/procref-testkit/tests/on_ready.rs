//! `on_ready` runs once for every instance, after the instance works and before any client can use
//! it. If `on_ready` does not succeed, no client gets the instance.

#![cfg(target_os = "linux")]

use procref_testkit::protocol::{
    Callback, Event, Gate, HealthOutcome, Outcome, ReadyOutcome, Reply, ServiceSpec, StopOutcome,
    Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};

const BEFORE: Gate = Gate::Before(Callback::OnReady);

fn spec_with_on_ready(scene: &Scene, outcome: ReadyOutcome) -> ServiceSpec {
    scene.service("prepared").with_on_ready([outcome])
}

#[test]
fn g4_clients_wait_until_on_ready_has_returned() {
    let scene = scene!();
    let spec = spec_with_on_ready(&scene, ReadyOutcome::Pass).with_health(HealthOutcome::Query);
    let starter = scene.client(&spec.clone().with_gates([BEFORE]));
    let key = starter.build_as(1, &spec);
    let starting = starter.begin_acquire(Via::TokioMulti);
    // The health check has run before.
    starter.event(&Event::Returning(Callback::Health));
    starter.event(&Event::Running(Callback::OnReady));

    let waiters = scene.clients(5, &spec);
    let waiting: Vec<_> = waiters
        .iter()
        .zip(Via::ALL)
        .map(|(waiter, via)| waiter.begin_acquire(via))
        .collect();
    scene.wait_sleepers(key, 5);
    assert_eq!(waiters[0].status().state, "Starting");
    let watcher = scene.client(&spec);
    assert_eq!(watcher.try_join(), Ok(None));
    for (waiter, pending) in waiters.iter().zip(&waiting) {
        assert!(!waiter.has_replied(pending));
    }

    starter.proceed(BEFORE);
    let held = starter.finish_acquire(starting).expect("acquire");
    let joined: Vec<_> = waiters
        .iter()
        .zip(waiting)
        .map(|(waiter, pending)| waiter.finish_acquire(pending).expect("acquire"))
        .collect();
    assert_eq!(scene.calls("on_ready"), 1);
    for (waiter, held) in waiters.iter().zip(&joined) {
        waiter.release(held);
    }
    starter.release(&held);
    scene.assert_clean();
}

#[test]
fn on_ready_runs_once_per_instance() {
    for recover in [vec![], vec![Outcome::Replace]] {
        let scene = scene!();
        let spec = spec_with_on_ready(&scene, ReadyOutcome::Pass).with_recoveries(recover);
        let clients = scene.clients(3, &spec);
        let held: Vec<_> = clients.iter().map(Actor::acquire).collect();
        assert_eq!(scene.calls("on_ready"), 1);
        scene.kill_only_instance();
        let again: Vec<_> = clients.iter().map(Actor::acquire).collect();
        assert_eq!(scene.calls("on_ready"), 2);
        for (client, held) in clients.iter().zip(held.iter().chain(&again)) {
            client.release(held);
        }
        for (client, held) in clients.iter().zip(&again) {
            client.release(held);
        }
        scene.assert_clean();
    }
}

#[test]
fn g9_on_ready_failure_fails_the_start_and_cleans_up() {
    for (outcome, message) in [
        (ReadyOutcome::Fail, "the test makes this callback fail"),
        (ReadyOutcome::Kill, "exited while the callback ran"),
    ] {
        for via in Via::ALL {
            let scene = scene!();
            let spec = scene
                .service("prepared")
                .with_stop(StopOutcome::Terminate)
                .with_on_ready([outcome, ReadyOutcome::Pass]);
            let client = scene.client(&spec);
            let failure = client.try_acquire(via).expect_err("the callback fails");
            for text in ["`prepared`", "`on_ready`", message] {
                assert!(failure.text.contains(text), "{failure:?}");
            }
            scene.assert_clean();
            let stopped = usize::from(outcome == ReadyOutcome::Fail);
            assert_eq!(scene.calls("on_last_release"), stopped);

            let held = client.acquire_via(via);
            client.release_via(&held, via);
            assert_eq!(scene.started().len(), 2);
        }
    }
}

#[test]
fn g9_on_ready_panic_propagates_and_cleans_up() {
    for outcome in [ReadyOutcome::Panic, ReadyOutcome::PanicAtCall] {
        for via in Via::ALL {
            let scene = scene!();
            let client = scene.actor();
            let spec = scene.service("prepared");
            let key = client.build(&spec.with_on_ready([outcome, ReadyOutcome::Pass]));
            let pending = client.begin_acquire(via);
            match client.reply(pending) {
                Reply::Panicked(text) => assert_eq!(text, "the test makes this callback panic"),
                reply => panic!("{reply:?}"),
            }
            deadline::until_true("the instance and the set are gone", || {
                scene.living().is_empty() && kernel::find(key).is_none()
            });
            scene.assert_clean();
            let held = client.acquire_via(via);
            client.release_via(&held, via);
        }
    }
}

#[test]
fn on_ready_has_its_own_start_timeout() {
    let scene = scene!();
    let spec = spec_with_on_ready(&scene, ReadyOutcome::Pass)
        .with_gates([BEFORE])
        .with_start_timeout_ms(300);
    let client = scene.client(&spec);
    let failure = client
        .try_acquire(Via::Pollster)
        .expect_err("the callback times out");
    for text in ["`prepared`", "`on_ready`", "longer than 300ms"] {
        assert!(failure.text.contains(text), "{failure:?}");
    }
    client.event(&Event::Dropped(Callback::OnReady));
    assert_eq!(scene.started().len(), 1);
    scene.assert_clean();
}

#[test]
fn g9_cancelled_on_ready_stops_the_instance() {
    let scene = scene!();
    let client = scene.actor();
    let key = client.build(&spec_with_on_ready(&scene, ReadyOutcome::Pass).with_gates([BEFORE]));
    let pending = client.begin_acquire(Via::Smol);
    client.event(&Event::Running(Callback::OnReady));
    assert!(client.cancel(pending));
    deadline::until_true("the instance and the set are gone", || {
        scene.living().is_empty() && kernel::find(key).is_none()
    });
    scene.assert_clean();
}

/// If `on_ready` fails after a recovery, the other clients have no instance. They must not get an
/// instance for which `on_ready` has not succeeded.
#[test]
fn g9_on_ready_failure_after_a_recovery_leaves_no_instance() {
    let scene = scene!();
    let holder = scene.client(&scene.service("prepared"));
    let held = holder.acquire();
    scene.kill_only_instance();
    let spec = scene
        .service("prepared")
        .with_recoveries([Outcome::Replace]);
    let client = scene.client(&spec.with_on_ready([ReadyOutcome::Fail, ReadyOutcome::Pass]));
    client
        .try_acquire(Via::TokioMulti)
        .expect_err("the callback fails");
    assert_eq!(scene.living(), []);
    assert_eq!((holder.count(), holder.status().instance), (1, None));

    let again = client.acquire();
    assert_eq!(again.got.pid, scene.only_instance().pid);
    client.release(&again);
    holder.release(&held);
}

#[test]
fn g4_waiter_takes_over_when_a_client_dies_in_on_ready() {
    let scene = scene!();
    let spec = spec_with_on_ready(&scene, ReadyOutcome::Pass);
    let (starter, key, _) = scene.client_at_gate(&spec, BEFORE, Via::TokioMulti);
    let waiter = scene.client(&spec);
    let waiting = waiter.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    starter.kill();
    let held = waiter.finish_acquire(waiting).expect("acquire");
    assert_eq!(held.got.pid, scene.only_instance().pid);
    assert_eq!((scene.started().len(), scene.calls("on_ready")), (2, 2));
    scene.assert_single_instance();
    waiter.release(&held);
}
