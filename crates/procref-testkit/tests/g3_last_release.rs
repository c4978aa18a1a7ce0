//! G3: when no process holds a reference, the service is stopped. These tests cover clients that
//! release their handles themselves.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use procref_testkit::actor::{Actor, Pending};
use procref_testkit::protocol::{
    Callback, Command, Death, DropContext, Event, Gate, Reply, ServiceSpec, StopOutcome, Via,
};
use procref_testkit::{Scene, kernel, scene};
use rustix::process::Signal;

#[test]
fn g3_last_release_stops_the_service_gracefully() {
    for stop in [None, Some(StopOutcome::Terminate)] {
        for via in Via::ALL {
            let scene = scene!();
            let mut spec = scene.service("last");
            spec.stop = stop;
            // This is long enough that the test fails if release does not wait.
            spec.fake.slow_stop_ms = 30;
            let (one, two) = (scene.client(&spec), scene.client(&spec));
            let (first, second) = (one.acquire_via(via), two.acquire_via(via));
            one.release_via(&first, via);
            assert_eq!(
                scene.only_instance().pid,
                first.got.pid,
                "the second client still holds the service"
            );
            two.release_via(&second, via);
            // The check may run at once, because release waits until everything is removed.
            scene.assert_clean();
            assert_eq!(scene.stopped(), [(first.got.pid, "signal 15".to_owned())]);
            assert_eq!(scene.calls("on_last_release"), usize::from(stop.is_some()));
        }
    }
}

#[test]
fn g3_drop_of_the_last_handle_waits_for_the_stop() {
    let scene = scene!();
    let mut spec = scene.service("last");
    spec.fake.slow_stop_ms = 30;
    let client = scene.client(&spec.with_stop(StopOutcome::Terminate));
    let held = client.acquire();
    client.drop_handle(&held, DropContext::Thread);
    scene.assert_clean();
    assert_eq!(scene.stopped().len(), 1);
}

#[test]
fn g3_last_client_returning_from_main_stops_the_service() {
    for how in [Death::Return, Death::Panic] {
        let scene = scene!();
        let client = scene.client(&scene.service("last"));
        client.acquire();
        client.die(how);
        scene.assert_clean();
        assert_eq!(scene.stopped().len(), 1);
    }
}

/// Asserts that a service that outlives its grace is killed, and that the set stays until it is
/// dead.
fn assert_killed_after_grace(stop: Option<StopOutcome>, ignore_sigterm: bool) {
    const GRACE: Duration = Duration::from_millis(600);
    let scene = scene!();
    let mut spec = scene.service("stubborn").with_stop_timeout_ms(600);
    spec.stop = stop;
    spec.fake.ignore_sigterm = ignore_sigterm;
    let client = scene.client(&spec);
    let key = client.build_as(1, &spec);
    let held = client.acquire();
    let service = scene.only_instance();

    let start = Instant::now();
    let pending = client.begin(Command::Release {
        handle: held.handle,
        via: Via::TokioMulti,
    });
    while !service.exits_within(Duration::from_millis(5)) {
        let set = kernel::find(key).is_some();
        // The order of these two checks matters: the set may be removed only after the service
        // exits.
        assert!(
            set || !service.is_live(),
            "the set was removed before the service exited"
        );
    }
    assert!(
        start.elapsed() >= GRACE,
        "the service was killed before its grace was over"
    );
    assert_eq!(client.reply(pending), Reply::Done);
    assert_eq!(
        scene.stopped(),
        [],
        "the service was killed and did not stop by itself"
    );
    scene.assert_clean();
}

#[test]
fn g3_service_ignoring_sigterm_is_killed_after_release() {
    assert_killed_after_grace(None, true);
}

#[test]
fn g3_service_ignoring_the_callbacks_sigterm_is_killed() {
    assert_killed_after_grace(Some(StopOutcome::Terminate), true);
}

/// The callback has `stop_timeout`, and after it the service has `stop_timeout` once more.
#[test]
fn g3_service_is_stopped_if_the_stop_callback_does_nothing() {
    let scene = scene!();
    let spec = scene.service("idle").with_stop_timeout_ms(300);
    let client = scene.client(&spec.with_stop(StopOutcome::Nothing));
    let held = client.acquire();
    client.release(&held);
    assert_eq!(scene.calls("on_last_release"), 1);
    scene.assert_clean();
}

#[test]
fn g3_failing_stop_callback_is_an_error_and_service_stops() {
    let scene = scene!();
    let spec = scene.service("failing").with_stop_timeout_ms(300);
    let client = scene.client(&spec.with_stop(StopOutcome::Fail));
    let held = client.acquire();
    let failure = client
        .try_release(&held, Via::TokioMulti)
        .expect_err("the stop callback fails");
    assert!(
        failure
            .whole()
            .contains("the test makes this callback fail"),
        "{failure:?}"
    );
    assert!(failure.whole().contains("failing"), "{failure:?}");
    scene.assert_clean();
}

#[test]
fn g3_service_is_stopped_if_the_stop_callback_panics() {
    for via in Via::ALL {
        let scene = scene!();
        let spec = scene.service("panicking").with_stop_timeout_ms(300);
        let client = scene.client(&spec.with_stop(StopOutcome::Panic));
        let held = client.acquire();
        let reply = client.call(Command::Release {
            handle: held.handle,
            via,
        });
        let is_reported = match &reply {
            Reply::Failed(failure) => failure
                .whole()
                .contains("the test makes this callback panic"),
            Reply::Panicked(_) => true,
            _ => false,
        };
        assert!(is_reported, "{via:?}: {reply:?}");
        scene.assert_clean();
    }
}

#[test]
fn g3_service_is_stopped_if_the_stop_callback_hangs() {
    let scene = scene!();
    let spec = scene.service("hanging").with_stop_timeout_ms(300);
    let spec = spec.with_gates([Gate::Before(Callback::Stop)]);
    let client = scene.client(&spec.with_stop(StopOutcome::Terminate));
    for round in 0..2 {
        let held = client.acquire();
        if round == 0 {
            client.drop_handle(&held, DropContext::Thread);
        } else {
            // Release may report an error. In both cases, it returns and the service stops.
            let _ = client.try_release(&held, Via::TokioMulti);
        }
        scene.assert_clean();
    }
}

/// A user has pressed Ctrl-Z, or a debugger has suspended the service.
#[test]
fn g3_suspended_service_is_stopped_gracefully_by_release() {
    for stop in [None, Some(StopOutcome::Nothing)] {
        let scene = scene!();
        let mut spec = scene.service("paused");
        spec.stop = stop;
        spec.stop_timeout_ms = Some(if stop.is_some() { 200 } else { 30_000 });
        let client = scene.client(&spec);
        let held = client.acquire();
        scene.only_instance().signal(Signal::STOP);
        client.release(&held);
        assert_eq!(scene.stopped().len(), usize::from(stop.is_none()));
        scene.assert_clean();
    }
}

#[test]
fn g3_dead_service_is_not_stopped_again() {
    let scene = scene!();
    let spec = scene.service("dead").with_stop(StopOutcome::Terminate);
    let client = scene.client(&spec);
    let held = client.acquire();
    scene.kill_only_instance();
    client.release(&held);
    assert_eq!(scene.calls("on_last_release"), 0);
    scene.assert_clean();
}

/// Returns a client that is in its stop callback while the service is still alive.
fn client_in_stop_callback(scene: &Scene, spec: &ServiceSpec) -> (Actor, Pending) {
    let spec = spec.clone().with_stop(StopOutcome::Terminate);
    let one = scene.client(&spec.with_gates([Gate::Before(Callback::Stop)]));
    let held = one.acquire();
    let pending = one.begin(Command::Release {
        handle: held.handle,
        via: Via::TokioMulti,
    });
    one.event(&Event::Running(Callback::Stop));
    (one, pending)
}

#[test]
fn g3_acquire_during_a_stop_waits_and_starts_a_new_instance() {
    let scene = scene!();
    let spec = scene.service("race");
    let (one, releasing) = client_in_stop_callback(&scene, &spec);
    let old = scene.only_instance();
    let two = scene.client(&spec);
    let key = two.build_as(1, &spec);
    let acquiring = two.begin_acquire(Via::TokioMulti);
    scene.wait_sleepers(key, 1);
    assert!(!two.has_replied(&acquiring));
    assert!(old.is_live());
    assert_eq!(
        two.try_join(),
        Ok(None),
        "a stopping instance is not joined"
    );

    one.proceed(Gate::Before(Callback::Stop));
    assert_eq!(one.reply(releasing), Reply::Done);
    let held = two.finish_acquire(acquiring).expect("acquire");
    assert_ne!(held.got.pid, old.pid);
    assert!(!old.is_live());
    scene.assert_single_instance();
    two.release(&held);
}

#[test]
fn g3_acquire_finishes_the_stop_of_a_killed_client() {
    let scene = scene!();
    // The service has no supervisor, because a supervisor could also finish the stop.
    let spec = scene.service("race").with_orphans_kept();
    let (one, _releasing) = client_in_stop_callback(&scene, &spec);
    let old = scene.only_instance();
    let two = scene.client(&spec);
    let key = two.build_as(1, &spec);
    let acquiring = two.begin_acquire(Via::Pollster);
    scene.wait_sleepers(key, 1);
    one.kill();

    let held = two.finish_acquire(acquiring).expect("acquire");
    assert_ne!(held.got.pid, old.pid, "the stopping instance is not joined");
    assert!(!old.is_live());
    scene.assert_single_instance();
    two.release(&held);
}

#[test]
fn g3_adopted_orphan_is_stopped_at_its_last_release() {
    let scene = scene!();
    let spec = scene
        .service("orphan")
        .with_orphans_kept()
        .with_stop(StopOutcome::Terminate);
    let one = scene.client(&spec);
    let held = one.acquire();
    one.kill();
    assert_eq!(scene.only_instance().pid, held.got.pid);

    let two = scene.client(&spec);
    let adopted = two.acquire();
    assert_eq!(adopted.got.pid, held.got.pid);
    two.release(&adopted);
    assert_eq!(scene.stopped(), [(held.got.pid, "signal 15".to_owned())]);
    assert_eq!(scene.calls("on_last_release"), 1);
    scene.assert_clean();
}
