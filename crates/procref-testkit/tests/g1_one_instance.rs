//! G1: at most one live instance exists per namespace and name.
//!
//! The fake service detects a violation without procref. Each instance holds a file lock while it lives. An
//! instance that cannot take the lock reports that in the log.

use procref_testkit::actor::{Actor, Held};
use procref_testkit::fake::STOP_REASON;
use procref_testkit::protocol::{
    Acquired, Callback, Command, Event, Gate, HealthOutcome, Outcome, ServiceSpec, StopOutcome, Via,
};
use procref_testkit::{Scene, scene};

/// Factor for the number of rounds. It is smaller on Windows, because starting a process takes a
/// hundred times as long there.
const TIMES: u32 = if cfg!(windows) { 1 } else { 10 };

/// Factor for the pauses. It is larger on Windows: a pause must outlast a start in another client,
/// or the clients never release the service at the same time.
const PAUSES: u64 = if cfg!(windows) { 10 } else { 1 };

/// Acquires in all clients at the same time. The clients use all runtimes in turn.
fn acquire_all(clients: &[Actor]) -> Vec<Held> {
    let requests: Vec<_> = clients
        .iter()
        .zip(Via::ALL.iter().cycle())
        .map(|(client, &via)| client.begin_acquire(via))
        .collect();
    clients
        .iter()
        .zip(requests)
        .map(|(client, pending)| client.finish_acquire(pending).expect("acquire"))
        .collect()
}

fn release_all(clients: &[Actor], held: &[Held]) {
    for (client, held) in clients.iter().zip(held) {
        client.release_via(held, Via::Pollster);
    }
}

#[track_caller]
fn assert_same(held: &[Held]) -> (u32, u32) {
    let of = |held: &Held| (held.got.pid, held.got.generation);
    for other in held {
        assert_eq!(of(other), of(&held[0]));
    }
    of(&held[0])
}

/// Runs storms until the service has been started often enough. On a busy machine, all clients may
/// join before the first one releases the service, and nothing would be tested.
fn storm(scene: &Scene, clients: &[Actor], rounds: u32, pause_us: u64) {
    const ATTEMPTS: usize = 5;

    let started = || scene.started().len();
    let has_started_often = (0..ATTEMPTS).any(|_| {
        run_storm(scene, clients, rounds, pause_us);
        started() > 2 * TIMES as usize
    });
    assert!(
        has_started_often,
        "only {} instances were started",
        started()
    );
}

fn run_storm(scene: &Scene, clients: &[Actor], rounds: u32, pause_us: u64) {
    let command = Command::Storm {
        service: 0,
        rounds,
        pause_us: pause_us * PAUSES,
    };
    let requests: Vec<_> = clients
        .iter()
        .map(|client| client.begin(command.clone()))
        .collect();
    for (client, pending) in clients.iter().zip(requests) {
        let report = client.finish_storm(pending);
        assert!(report.wrong.is_empty(), "{report:#?}");
        assert_eq!(report.good, rounds);
    }
    scene.assert_single_instance();
    let started: Vec<_> = scene.started().iter().map(|it| it.pid).collect();
    let stopped: Vec<_> = scene.stopped().iter().map(|it| it.0).collect();
    assert_eq!(
        started, stopped,
        "each instance stops before the next one starts"
    );
    scene.assert_clean();
}

#[test]
fn g1_concurrent_acquires_start_one_instance() {
    let scene = scene!();
    let clients = scene.clients(24, &scene.service("herd"));
    let held = acquire_all(&clients);
    let (pid, _) = assert_same(&held);
    assert_eq!(scene.only_instance().pid, pid);
    assert_eq!(scene.calls("on_first_acquire"), 1);
    assert_eq!(clients[0].count(), 24);
    release_all(&clients, &held);
    assert_eq!(scene.started().len(), 1);
    assert_eq!(scene.stopped(), [(pid, STOP_REASON.to_owned())]);
}

#[test]
fn g1_starts_and_stops_in_a_storm_never_overlap() {
    let scene = scene!();
    let clients = scene.clients(6, &scene.service("storm"));
    storm(&scene, &clients, 10 * TIMES, 15_000);
}

#[test]
fn g1_stop_callbacks_in_a_storm_never_overlap_a_start() {
    let scene = scene!();
    let mut spec = scene.service("storm");
    // The callback returns right after it has sent the signal, long before the service exits.
    spec.fake.slow_stop_ms = 3;
    let spec = spec.with_stop(StopOutcome::Terminate);
    let clients = scene.clients(4, &spec.with_health(HealthOutcome::Query));
    storm(&scene, &clients, 10 * TIMES, 10_000);
}

#[test]
fn g1_last_release_racing_an_acquire_never_leaves_two() {
    let scene = scene!();
    let clients = scene.clients(2, &scene.service("race"));
    storm(&scene, &clients, 30 * TIMES, 2_000);
}

/// Each instance lives about as long as a join takes. The instance that a client gets may be dead
/// when the client checks it, but there are never two instances.
#[test]
fn g1_short_lived_instances_never_overlap() {
    let scene = scene!();
    let mut spec = scene.service("short");
    spec.fake.exit_after_ms = Some(4);
    let clients = scene.clients(4, &spec);
    let rounds = 5 * TIMES as usize / 2;
    for _ in 0..rounds {
        let requests: Vec<_> = clients
            .iter()
            .map(|client| client.begin_acquire(Via::Pollster))
            .collect();
        for (client, pending) in clients.iter().zip(requests) {
            // If the instance dies before it is ready, acquire returns an error.
            if let Ok(held) = client.finish_acquire(pending) {
                client.release_via(&held, Via::Pollster);
            }
        }
        scene.assert_single_instance();
    }
    assert_eq!(clients[0].count(), 0);
    assert!(scene.started().len() >= rounds);
}

#[test]
fn g1_clients_killed_during_a_storm_never_cause_two() {
    let scene = scene!();
    let spec = scene.service("mortal");
    let survivors = scene.clients(3, &spec);
    let storms: Vec<_> = survivors
        .iter()
        .map(|client| {
            client.begin(Command::Storm {
                service: 0,
                rounds: 6 * TIMES,
                pause_us: 10_000,
            })
        })
        .collect();
    for _ in 0..2 + TIMES {
        let victim = scene.client(&spec);
        victim.acquire_via(Via::Blocking);
        victim.kill();
    }
    for (client, pending) in survivors.iter().zip(storms) {
        let report = client.finish_storm(pending);
        assert!(report.wrong.is_empty(), "{report:#?}");
    }
    // The last killed client may have been the last holder.
    let held = survivors[0].acquire();
    survivors[0].release(&held);
    scene.assert_single_instance();
}

/// Some clients hold the service and others do not. All of them acquire at once after
/// `make_unusable` has run. Asserts that one client recovers the service.
fn assert_recovered_once(
    spec: &ServiceSpec,
    scene: &Scene,
    make_unusable: impl FnOnce(&Held),
) -> (u32, u32) {
    let clients = scene.clients(10, spec);
    let before = acquire_all(&clients[..4]);
    let (old, generation) = assert_same(&before);
    make_unusable(&before[0]);
    let after = acquire_all(&clients);
    let (new, next) = assert_same(&after);
    assert_ne!((old, generation), (new, next));
    scene.assert_single_instance();
    assert_eq!(scene.only_instance().pid, new);
    assert_eq!(scene.started().len(), 2);
    assert_eq!(clients[9].count(), 10);
    release_all(&clients[..4], &before);
    assert_eq!(clients[9].count(), 10, "each client has another handle");
    release_all(&clients, &after);
    scene.assert_clean();
    (generation, next)
}

#[test]
fn g1_unhealthy_service_is_recovered_once() {
    let scene = scene!();
    let spec = scene.service("ill").with_health(HealthOutcome::Query);
    let spec = spec.with_recoveries([Outcome::Replace]);
    let (generation, next) =
        assert_recovered_once(&spec, &scene, |held| scene.make_unhealthy(held.got.pid));
    assert_eq!(next, generation + 1);
    assert_eq!(scene.calls("on_recover"), 1);
    assert_eq!(scene.calls("on_first_acquire"), 1);
}

#[test]
fn g1_unhealthy_service_is_stopped_before_a_new_start() {
    let scene = scene!();
    let spec = scene.service("ill").with_health(HealthOutcome::Query);
    assert_recovered_once(&spec, &scene, |held| scene.make_unhealthy(held.got.pid));
    assert_eq!(scene.calls("on_first_acquire"), 2);
}

#[test]
fn g1_dead_service_is_recovered_once() {
    let scene = scene!();
    let spec = scene.service("dead").with_recoveries([Outcome::Serve]);
    assert_recovered_once(&spec, &scene, |_| {
        scene.kill_only_instance();
    });
    assert_eq!(scene.calls("on_recover"), 1);
    assert_eq!(scene.calls("on_first_acquire"), 1);
}

/// A client finds the service unhealthy. Before the client can act, another client replaces the
/// instance. The result of the health check was about the old instance.
#[test]
fn g1_late_health_check_result_spares_the_new_instance() {
    for recover in [vec![], vec![Outcome::Replace]] {
        let scene = scene!();
        let spec = scene.service("ill").with_health(HealthOutcome::Query);
        let spec = spec.with_recoveries(recover);
        let clients = scene.clients(2, &spec);
        let gate = Gate::After(Callback::Health);
        let late = scene.client(&spec.clone().with_gates([gate]));
        let old = clients[0].acquire();
        scene.make_unhealthy(old.got.pid);
        let pending = late.begin_acquire(Via::TokioMulti);
        late.event(&Event::Returning(Callback::Health));

        let new = clients[1].acquire();
        assert_ne!(new.got.pid, old.got.pid);
        late.proceed(gate);
        late.event(&Event::Returning(Callback::Health));
        late.proceed(gate);
        let held = late.finish_acquire(pending).expect("acquire");
        assert_eq!(
            held.got,
            Acquired {
                at: held.got.at,
                ..new.got.clone()
            }
        );
        assert_eq!(scene.started().len(), 2);
        assert_eq!(scene.only_instance().pid, new.got.pid);
        clients[0].release(&old);
        clients[1].release(&new);
        late.release(&held);
    }
}

#[test]
fn g1_replaced_instance_is_stopped_after_a_recovery() {
    let scene = scene!();
    // The callback starts a second instance and leaves the first one running.
    let spec = scene.service("ill").with_health(HealthOutcome::Query);
    let client = scene.client(&spec.with_recoveries([Outcome::Serve]));
    let old = client.acquire();
    scene.make_unhealthy(old.got.pid);
    let new = client.acquire();
    assert_ne!(old.got.pid, new.got.pid);
    assert_eq!(scene.only_instance().pid, new.got.pid);
    client.release(&old);
    client.release(&new);
}

#[test]
fn g1_recovery_may_keep_the_old_instance() {
    let scene = scene!();
    let spec = scene.service("ill").with_health(HealthOutcome::Query);
    let clients = scene.clients(4, &spec.with_recoveries([Outcome::Heal]));
    let before = clients[0].acquire();
    scene.make_unhealthy(before.got.pid);
    let after = acquire_all(&clients);
    // The process is the same. A health check that runs right after the recovery may not have seen
    // the recovery at all, and then acquire returns the previous generation.
    assert!(after.iter().all(|held| held.got.pid == before.got.pid));
    assert_eq!(scene.calls("on_recover"), 1);
    assert_eq!(scene.started().len(), 1);
    clients[0].release(&before);
    release_all(&clients, &after);
}

#[test]
fn g1_names_and_directories_separate_services() {
    let scene = scene!();
    let spec = |name: &str, dir: &str| {
        let mut spec = scene.service(name);
        spec.dir = Some(scene.root().join(dir));
        spec.fake.witness = scene.root().join(format!("witness-{name}-{dir}"));
        spec
    };
    let specs = [spec("a", "run"), spec("b", "run"), spec("a", "other")];
    let client = scene.actor();
    let mut held = Vec::new();
    for (number, spec) in (0..).zip(&specs) {
        client.build_as(number, spec);
        let pending = client.begin_acquire_of(number, Via::TokioMulti);
        held.push(client.finish_acquire(pending).expect("acquire"));
    }
    assert_eq!(scene.living().len(), 3);
    for held in &held {
        client.release(held);
    }
}
