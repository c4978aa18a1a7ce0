//! G6: nothing is left after the last release, and the next acquire removes the leftovers of a crash.
//!
//! Every scene checks this when it ends. These tests cover cases in which something remains for a time.

use procref_testkit::protocol::{
    Callback, Command, Event, Gate, HealthOutcome, Outcome, Reply, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, scene};

/// Asserts that one more client can acquire and release, and that nothing is left then.
fn assert_next_client_cleans_up(scene: &Scene, name: &str) {
    let client = scene.client(&scene.service(name));
    let held = client.acquire();
    assert_eq!(client.count(), 1);
    assert_eq!(held.got.pid, scene.only_instance().pid);
    client.release(&held);
    scene.assert_clean();
}

#[test]
fn g6_running_service_has_one_object_and_one_file() {
    let scene = scene!();
    let clients = scene.clients(3, &scene.service("tidy"));
    let held: Vec<_> = clients.iter().map(Actor::acquire).collect();
    assert_eq!(scene.files().len(), 1, "the record");
    let key = clients[0].build_as(1, &scene.service("tidy"));
    assert!(scene.exists(key));
    for (client, held) in clients.iter().zip(&held) {
        client.release(held);
    }
    scene.assert_clean();
}

#[test]
fn g6_failed_starts_leave_nothing() {
    let scene = scene!();
    let outcomes = [
        Outcome::Fail("no".to_owned()),
        Outcome::Panic,
        Outcome::PanicAtCall,
        Outcome::DeadPid,
        Outcome::Pid(u32::MAX),
    ];
    for outcome in outcomes {
        let client = scene.client(&scene.service("failing").with_starts([outcome.clone()]));
        for via in Via::ALL {
            let pending = client.begin_acquire(via);
            let reply = client.reply(pending);
            let refused = matches!(reply, Reply::Failed(_) | Reply::Panicked(_));
            assert!(refused, "{outcome:?} {via:?}: {reply:?}");
            scene.assert_clean();
        }
    }
}

#[test]
fn g6_cancelled_start_leaves_nothing() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let client = scene.client(&scene.service("cancelled").with_gates([gate]));
    for via in [Via::TokioMulti, Via::TokioCurrent, Via::Smol, Via::Pollster] {
        let pending = client.begin_acquire(via);
        client.event(&Event::Running(Callback::Start));
        assert!(client.cancel(pending));
        scene.assert_clean();
    }
}

#[test]
fn g6_acquire_cleans_up_after_a_starter_killed_in_its_callback() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let (client, _, _) = scene.client_at_gate(&scene.service("killed"), gate, Via::TokioMulti);
    client.kill();
    assert_next_client_cleans_up(&scene, "killed");
}

#[test]
fn g6_acquire_adopts_the_service_of_a_killed_holder() {
    let scene = scene!();
    let client = scene.client(&scene.service("killed").with_orphans_kept());
    client.acquire();
    client.kill();
    assert_next_client_cleans_up(&scene, "killed");
    assert_eq!(scene.started().len(), 1, "the orphan is adopted");
}

#[test]
fn g6_acquire_cleans_up_after_a_killed_holder_and_service() {
    let scene = scene!();
    let client = scene.client(&scene.service("killed"));
    client.acquire();
    scene.kill_only_instance();
    client.kill();
    assert_next_client_cleans_up(&scene, "killed");
    assert_eq!(scene.started().len(), 2);
}

#[test]
fn g6_acquire_cleans_up_after_a_client_killed_in_its_stop() {
    for gate in [Gate::Before(Callback::Stop), Gate::After(Callback::Stop)] {
        let scene = scene!();
        let spec = scene.service("killed").with_stop(StopOutcome::Terminate);
        let client = scene.client(&spec.with_gates([gate]));
        let held = client.acquire();
        let _ = client.begin(Command::Release {
            handle: held.handle,
            via: Via::TokioMulti,
        });
        client.event(&Event::Running(Callback::Stop));
        client.kill();
        assert_next_client_cleans_up(&scene, "killed");
        scene.assert_single_instance();
        assert_eq!(
            scene.started().len(),
            2,
            "the stopping instance is not joined"
        );
    }
}

#[test]
fn g6_acquire_cleans_up_after_a_client_killed_in_its_recovery() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Recover);
    let spec = scene.service("killed").with_health(HealthOutcome::Query);
    let client = scene.client(&spec.with_recoveries([Outcome::Replace]).with_gates([gate]));
    let held = client.acquire();
    scene.make_unhealthy(held.got.pid);
    let _ = client.begin_acquire(Via::TokioMulti);
    client.event(&Event::Running(Callback::Recover));
    client.kill();

    let spec = scene.service("killed").with_health(HealthOutcome::Query);
    let next = scene.client(&spec);
    let held = next.acquire();
    assert_eq!(next.count(), 1);
    scene.assert_single_instance();
    next.release(&held);
    scene.assert_clean();
}

#[test]
fn g6_service_works_and_cleans_up_without_its_record() {
    let scene = scene!();
    let mut spec = scene.service("forgotten");
    spec.metadata = vec![("key".to_owned(), "value".to_owned())];
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    for file in scene.files() {
        std::fs::remove_file(file).expect("remove the record");
    }
    let joined = two.acquire();
    assert_eq!(joined.got.pid, held.got.pid);
    two.release(&joined);
    one.release(&held);
    scene.assert_clean();
}

#[test]
fn g6_acquire_cleans_up_after_all_clients_killed_in_a_storm() {
    let scene = scene!();
    let clients = scene.clients(5, &scene.service("crash"));
    let begin = |rounds| {
        let storm = |client: &Actor| {
            client.begin(Command::Storm {
                service: 0,
                rounds,
                pause_us: 10_000,
            })
        };
        clients.iter().map(storm).collect::<Vec<_>>()
    };
    let started = || scene.started().len();
    // A storm of many rounds may never stop the service: on a slow machine, there is always a client that holds it. Each
    // storm starts it at least once, and stops it at its end.
    while started() < 3 {
        for (client, pending) in clients.iter().zip(begin(3)) {
            let report = client.finish_storm(pending);
            assert!(report.wrong.is_empty(), "{report:#?}");
        }
    }
    let before = started();
    begin(100_000);
    procref_testkit::deadline::until_true("the last storm starts the service", || {
        started() > before
    });
    for client in &clients {
        client.identity().kill();
    }
    for client in &clients {
        client.wait_end();
    }
    // A starter that is killed between spawning and publishing leaves a service that no other
    // process knows. This gap is documented. All other instances are found.
    let unknown: Vec<_> = scene.living();
    assert!(unknown.len() <= 1, "{unknown:?}");
    for service in unknown {
        service.kill();
        service.wait_exit();
    }
    assert_next_client_cleans_up(&scene, "crash");
}
