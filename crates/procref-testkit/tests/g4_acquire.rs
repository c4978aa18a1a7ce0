//! G4: `acquire` returns a service that is alive, ready and healthy, or an error that states what happened. A
//! client that waits for another client's start wakes when the start succeeds or fails.

use procref_testkit::actor::{Actor, Pending};
use procref_testkit::fake::STOP_REASON;
use procref_testkit::protocol::{
    Callback, Command, Death, DropContext, Event, Failure, Gate, HealthOutcome, Outcome, Reply,
    ServiceSpec, StopOutcome, Via,
};
use procref_testkit::{Scene, scene};

const START: Gate = Gate::Before(Callback::Start);

/// A starter in its callback, and clients that wait for the start.
struct PendingStart {
    starter: Actor,
    starting: Pending,
    waiters: Vec<Actor>,
    waiting: Vec<Pending>,
}

fn starter_and_waiters(scene: &Scene, outcome: Outcome) -> PendingStart {
    let spec = scene.service("slow");
    let (starter, key, starting) =
        scene.client_at_gate(&spec.clone().with_starts([outcome]), START, Via::TokioMulti);
    let waiters = scene.clients(4, &spec);
    let waiting: Vec<_> = waiters
        .iter()
        .zip(Via::ALL)
        .map(|(waiter, via)| waiter.begin_acquire(via))
        .collect();
    scene.wait_sleepers(key, 4);
    for (waiter, pending) in waiters.iter().zip(&waiting) {
        assert!(!waiter.has_replied(pending));
    }
    PendingStart {
        starter,
        starting,
        waiters,
        waiting,
    }
}

/// Asserts that all waiters get the same instance, and releases it.
fn assert_all_served(scene: &Scene, waiters: &[Actor], waiting: Vec<Pending>) {
    assert_all_served_then(scene, waiters, waiting, || {});
}

/// Like [`assert_all_served`], and runs `while_held` while the waiters hold the service.
fn assert_all_served_then(
    scene: &Scene,
    waiters: &[Actor],
    waiting: Vec<Pending>,
    while_held: impl FnOnce(),
) {
    let mut held = Vec::new();
    for (waiter, pending) in waiters.iter().zip(waiting) {
        held.push(waiter.finish_acquire(pending).expect("acquire"));
    }
    let service = scene.only_instance();
    assert_eq!(scene.started(), [service]);
    for held in &held {
        assert_eq!(held.got.pid, service.pid);
    }
    while_held();
    assert_eq!(waiters[0].count(), 4);
    for (waiter, held) in waiters.iter().zip(&held) {
        waiter.release_via(held, Via::Pollster);
    }
    scene.assert_clean();
}

#[test]
fn g4_waiters_join_the_instance_of_the_starter() {
    let scene = scene!();
    let it = starter_and_waiters(&scene, Outcome::Serve);
    it.starter.proceed(START);
    let held = it.starter.finish_acquire(it.starting).expect("acquire");
    // The starter holds the service until all waiters hold it.
    assert_all_served_then(&scene, &it.waiters, it.waiting, || {
        assert_eq!(it.starter.count(), 5);
        it.starter.drop_handle(&held, DropContext::Thread);
    });
    assert_eq!(scene.calls("on_first_acquire"), 1);
}

#[test]
fn g4_waiter_takes_over_when_the_starter_fails() {
    let scene = scene!();
    let it = starter_and_waiters(&scene, Outcome::Fail("no disk space".to_owned()));
    it.starter.proceed(START);
    let failure = it
        .starter
        .finish_acquire(it.starting)
        .expect_err("the start fails");
    assert_contains(&failure, &["slow", "on_first_acquire", "no disk space"]);
    assert_all_served(&scene, &it.waiters, it.waiting);
    assert_eq!(scene.calls("on_first_acquire"), 2);
}

#[test]
fn g4_waiter_takes_over_when_the_starter_panics() {
    let scene = scene!();
    let it = starter_and_waiters(&scene, Outcome::Panic);
    it.starter.proceed(START);
    assert_panicked(&it.starter, it.starting);
    assert_all_served(&scene, &it.waiters, it.waiting);
}

#[test]
fn g4_waiter_takes_over_when_the_starter_is_cancelled() {
    let scene = scene!();
    let it = starter_and_waiters(&scene, Outcome::Serve);
    assert!(it.starter.cancel(it.starting));
    it.starter.event(&Event::Dropped(Callback::Start));
    assert_all_served(&scene, &it.waiters, it.waiting);
}

#[test]
fn g4_waiter_takes_over_when_the_starter_is_killed() {
    for how in [Death::Kill, Death::Exit, Death::Abort] {
        let scene = scene!();
        let it = starter_and_waiters(&scene, Outcome::Serve);
        it.starter.die(how);
        assert_all_served(&scene, &it.waiters, it.waiting);
    }
}

#[test]
fn g4_waiter_takes_over_when_the_starter_dies_in_its_callback() {
    let scene = scene!();
    let it = starter_and_waiters(&scene, Outcome::Die);
    // The starter may die before it can reply to this command.
    let _ = it.starter.begin(Command::Proceed {
        service: 0,
        gate: START,
    });
    it.starter.wait_end();
    assert_all_served(&scene, &it.waiters, it.waiting);
}

#[test]
fn g4_waiters_take_over_in_turn_until_a_start_succeeds() {
    let scene = scene!();
    let bad = [
        Outcome::Fail("no".to_owned()),
        Outcome::Panic,
        Outcome::Die,
        Outcome::DeadPid,
        Outcome::PanicAtCall,
    ];
    let mut all = Vec::new();
    for outcome in bad {
        let spec = scene.service("row").with_starts([outcome]);
        all.push(scene.client(&spec));
    }
    all.push(scene.client(&scene.service("row")));
    let requests: Vec<_> = all.iter().map(|it| it.begin_acquire(Via::Smol)).collect();
    let mut good = Vec::new();
    for (index, (actor, pending)) in all.iter().zip(requests).enumerate() {
        match actor.reply_or_exit(pending) {
            // The starter that works, or a client that has joined its service.
            Ok(Reply::Acquired(got)) => good.push((index, got.pid)),
            reply => assert_ne!(index, 5, "{reply:?}"),
        }
    }
    assert!(good.iter().all(|it| it.1 == scene.only_instance().pid));
    assert_eq!(all[5].count() as usize, good.len());
    for (index, _) in good {
        let dropped = all[index].call(Command::DropAll);
        assert_eq!(dropped, Reply::Done);
    }
    scene.assert_single_instance();
}

#[track_caller]
fn assert_contains(failure: &Failure, parts: &[&str]) {
    for part in parts {
        assert!(failure.whole().contains(part), "{part:?} in {failure:#?}");
    }
}

/// Asserts that the panic is propagated or reported, and not swallowed.
#[track_caller]
fn assert_panicked(actor: &Actor, pending: Pending) {
    match actor.reply(pending) {
        Reply::Panicked(_) => {}
        Reply::Failed(failure) => assert_contains(&failure, &["the test makes this callback"]),
        reply => panic!("{reply:?}"),
    }
}

/// Asserts that the first acquire fails with `parts` in its text and leaves nothing, and that the
/// next acquire in the same process succeeds.
fn assert_fails_then_works(spec: ServiceSpec, scene: &Scene, bad: Outcome, parts: &[&str]) {
    let client = scene.client(&spec.with_starts([bad, Outcome::Serve]));
    for via in [Via::Blocking, Via::TokioCurrent] {
        let failure = client.try_acquire(via);
        if via == Via::Blocking {
            assert_contains(&failure.expect_err("the start fails"), parts);
            scene.assert_clean();
            assert_eq!(client.count(), 0);
        } else {
            client.release(&failure.expect("acquire"));
        }
    }
}

#[test]
fn g4_dead_pid_is_refused() {
    let scene = scene!();
    let spec = scene.service("short-lived");
    let parts = ["short-lived", "on_first_acquire", "pid", "alive"];
    assert_fails_then_works(spec, &scene, Outcome::DeadPid, &parts);
}

#[test]
fn g4_zombie_is_refused() {
    let scene = scene!();
    let spec = scene.service("undead");
    assert_fails_then_works(spec, &scene, Outcome::Zombie, &["undead", "pid", "alive"]);
}

#[test]
fn g4_pid_zero_without_health_check_is_refused() {
    let scene = scene!();
    let spec = scene.service("remote");
    let parts = ["remote", "on_health_check"];
    assert_fails_then_works(spec, &scene, Outcome::Pid(0), &parts);
}

#[test]
fn g4_unhealthy_new_instance_is_stopped() {
    let scene = scene!();
    scene.make_unhealthy(0);
    let spec = scene.service("ill").with_health(HealthOutcome::Query);
    let client = scene.client(&spec);
    let failure = client
        .try_acquire(Via::TokioMulti)
        .expect_err("the instance is unhealthy");
    assert_contains(&failure, &["ill", "healthy"]);
    assert_eq!(scene.stopped().len(), 1);
    scene.assert_clean();
}

#[test]
fn g4_start_callback_is_dropped_after_the_start_timeout() {
    let scene = scene!();
    let mut spec = scene.service("endless").with_gates([START]);
    spec.start_timeout_ms = Some(200);
    let client = scene.client(&spec);
    for via in [Via::TokioMulti, Via::Pollster, Via::Blocking] {
        let failure = client.try_acquire(via).expect_err("acquire times out");
        assert_contains(&failure, &["endless", "200ms"]);
        client.event(&Event::Dropped(Callback::Start));
        scene.assert_clean();
    }
    client.proceed(START);
    let held = client.acquire();
    client.release(&held);
}

#[test]
fn g4_wait_timeout_error_names_the_starter() {
    let scene = scene!();
    let spec = scene.service("slow");
    let (starter, _, starting) = scene.client_at_gate(&spec, START, Via::TokioMulti);
    let mut spec = spec;
    spec.wait_timeout_ms = Some(200);
    let impatient = scene.client(&spec);
    for via in [Via::TokioMulti, Via::Blocking] {
        let failure = impatient.try_acquire(via).expect_err("acquire times out");
        let holder = starter.pid().to_string();
        assert_contains(&failure, &["slow", "200ms", &holder]);
    }
    starter.proceed(START);
    let held = starter.finish_acquire(starting).expect("acquire");
    assert_eq!(starter.count(), 1);
    starter.release(&held);
}

#[test]
fn g4_hanging_health_check_is_dropped_after_a_timeout() {
    let scene = scene!();
    let spec = scene.service("thoughtful");
    let one = scene.client(&spec);
    let held = one.acquire();
    let mut spec = spec.with_health(HealthOutcome::Query);
    spec.gates.push(Gate::Before(Callback::Health));
    spec.wait_timeout_ms = Some(200);
    spec.stop_timeout_ms = Some(2_000);
    // The check may count as unhealthy or as too slow, but acquire does not hang.
    let two = scene.client(&spec);
    match two.try_acquire(Via::TokioMulti) {
        Err(failure) => assert_contains(&failure, &["thoughtful"]),
        Ok(other) => panic!("acquire returned {other:?} without a health check"),
    }
    let three = scene.client(&scene.service("thoughtful"));
    let other = three.acquire();
    scene.assert_single_instance();
    three.release(&other);
    one.release(&held);
}

/// The health checks of all clients run at the same time and without the lock. This holds when all
/// clients join, and when one of them adopts an orphan.
#[test]
fn g4_health_checks_run_concurrently_without_the_lock() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Health);
    let spec = scene.service("crowded").with_orphans_kept();
    let starter = scene.client(&spec);
    starter.acquire();
    let crowd = scene.clients(
        6,
        &spec.with_health(HealthOutcome::Query).with_gates([gate]),
    );
    let key = crowd[0].build_as(1, &scene.service("crowded"));
    for orphaned in [false, true] {
        if orphaned {
            starter.kill();
        }
        let requests: Vec<_> = crowd
            .iter()
            .map(|client| client.begin_acquire(Via::Pollster))
            .collect();
        for client in &crowd {
            client.event(&Event::Running(Callback::Health));
        }
        assert!(!scene.is_locked(key));
        let mut held = Vec::new();
        for (client, pending) in crowd.iter().zip(requests) {
            client.proceed(gate);
            held.push(client.finish_acquire(pending).expect("acquire"));
        }
        for (client, held) in crowd.iter().zip(&held) {
            client.release(held);
        }
    }
    assert_eq!(scene.started().len(), 1);
}

#[test]
fn g4_client_without_a_start_callback_can_only_join() {
    let scene = scene!();
    let spec = scene.service("guest").with_starts([]);
    let guest = scene.client(&spec);
    let failure = guest
        .try_acquire(Via::TokioMulti)
        .expect_err("the service does not run");
    assert_contains(&failure, &["guest", "on_first_acquire"]);
    scene.assert_clean();

    let host = scene.client(&scene.service("guest"));
    let held = host.acquire();
    let joined = guest.acquire();
    assert_eq!(joined.got.pid, held.got.pid);
    host.release(&held);
    // The service is stopped by a client that could not have started it.
    guest.release(&joined);
}

#[test]
fn g4_client_without_a_start_callback_fails_if_service_is_dead() {
    let scene = scene!();
    let host = scene.client(&scene.service("guest"));
    let held = host.acquire();
    scene.kill_only_instance();
    let guest = scene.client(&scene.service("guest").with_starts([]));
    let failure = guest
        .try_acquire(Via::TokioMulti)
        .expect_err("the service is dead");
    assert_contains(&failure, &["guest"]);
    assert_eq!(host.count(), 1);
    host.release(&held);
}

#[test]
fn g4_try_join_neither_starts_nor_waits() {
    let scene = scene!();
    let spec = scene.service("maybe");
    let guest = scene.client(&spec);
    assert_eq!(guest.try_join(), Ok(None));
    scene.assert_clean();

    let (starter, _, starting) = scene.client_at_gate(&spec, START, Via::TokioMulti);
    assert_eq!(guest.try_join(), Ok(None), "the instance is not ready");
    starter.proceed(START);
    let held = starter.finish_acquire(starting).expect("acquire");

    let joined = guest
        .try_join()
        .expect("try_join")
        .expect("the service runs");
    assert_eq!(joined.got.pid, held.got.pid);
    assert_eq!(starter.count(), 2);
    guest.release(&joined);
    scene.kill_only_instance();
    assert_eq!(guest.try_join(), Ok(None), "the instance is dead");
    assert_eq!(starter.count(), 1);
    starter.release(&held);
    assert_eq!(scene.calls("on_first_acquire"), 1);
}

#[test]
fn g4_try_join_by_the_last_client_stops_an_unhealthy_service() {
    let gate = Gate::Before(Callback::Health);
    let scene = scene!();
    let spec = scene.service("ill");
    let starter = scene.client(&spec);
    let held = starter.acquire();
    let spec = spec.with_health(HealthOutcome::Always(false));
    let guest = scene.client(&spec.with_gates([gate]));
    let joining = guest.begin(Command::TryJoin {
        service: 0,
        handle: 1,
        via: Via::Pollster,
    });
    guest.event(&Event::Running(Callback::Health));
    starter.release(&held);
    guest.proceed(gate);
    assert_eq!(guest.reply(joining), Reply::Nothing);
    assert_eq!(scene.stopped(), [(held.got.pid, STOP_REASON.to_owned())]);
    scene.assert_clean();
}

#[test]
fn g4_joiner_of_an_unhealthy_service_sleeps_during_recovery() {
    let health_gate = Gate::Before(Callback::Health);
    let recovery = Gate::Before(Callback::Recover);
    let scene = scene!();
    let spec = scene.service("ill").with_health(HealthOutcome::Query);
    let holder = scene.actor();
    let key = holder.build(&spec);
    let held = holder.acquire();
    let (joiner, _, joining) = scene.client_at_gate(&spec, health_gate, Via::TokioMulti);
    scene.make_unhealthy(scene.only_instance().pid);
    let spec = spec.with_recoveries([Outcome::Serve]);
    let (recoverer, _, recovering) = scene.client_at_gate(&spec, recovery, Via::TokioMulti);
    joiner.proceed(health_gate);
    scene.wait_sleepers(key, 1);
    recoverer.proceed(recovery);
    let recovered = recoverer.finish_acquire(recovering).expect("acquire");
    joiner.proceed(health_gate);
    let joined = joiner.finish_acquire(joining).expect("acquire");
    assert_eq!(joined.got.pid, recovered.got.pid);
    recoverer.release(&recovered);
    joiner.release(&joined);
    holder.release(&held);
    scene.assert_clean();
}

#[test]
fn g4_metadata_reaches_every_client() {
    let scene = scene!();
    let mut spec = scene.service("talkative");
    spec.metadata = vec![
        (
            "socket".to_owned(),
            "/tmp/with space\n\"and quotes\"".to_owned(),
        ),
        ("ключ".to_owned(), "🦀".repeat(1000)),
    ];
    let (one, two) = (scene.client(&spec), scene.client(&spec));
    let held = one.acquire();
    assert_eq!(held.got.metadata, spec.metadata);
    let joined = two.acquire();
    assert_eq!(joined.got.metadata, spec.metadata);
    assert_eq!(joined.got.port, held.got.port);
    one.kill();
    let adopted = two.acquire();
    assert_eq!(adopted.got.metadata, spec.metadata);
    two.release(&joined);
    two.release(&adopted);
}

#[test]
fn g4_metadata_is_that_of_the_instance_in_a_new_object() {
    let scene = scene!();
    let named = |name: &str| {
        // Generations restart at 1 with a new object, and an instance without a process has no identity. So the
        // instances differ only in their metadata.
        let spec = scene.service("remote").with_starts([Outcome::Pid(0)]);
        let mut spec = spec.with_health(HealthOutcome::Always(true));
        spec.metadata = vec![("name".to_owned(), name.to_owned())];
        spec
    };
    let [one, two, three] = ["first", "second", "third"].map(|name| scene.client(&named(name)));
    let held = one.acquire();
    let joined = two.acquire();
    assert_eq!(joined.got.metadata, named("first").metadata);
    two.release(&joined);
    one.release(&held);
    scene.assert_clean();
    let held = three.acquire();
    let joined = two.acquire();
    assert_eq!(joined.got.metadata, named("third").metadata);
    two.release(&joined);
    let again = two.acquire();
    assert_eq!(again.got.metadata, named("third").metadata);
    two.release(&again);
    three.release(&held);
    scene.assert_clean();
}

#[test]
fn status_reports_each_state_of_a_service() {
    let scene = scene!();
    let spec = scene.service("public").with_gates([START]);
    let spec = spec.with_stop(StopOutcome::Terminate);
    let stop = Gate::Before(Callback::Stop);
    let one = scene.client(&spec.clone().with_gates([stop]));
    let watcher = scene.client(&spec);
    let state = || {
        let status = watcher.status();
        (
            status.state,
            status.clients,
            status.instance,
            status.transition,
        )
    };
    assert_eq!(state(), ("Absent".to_owned(), 0, None, None));

    let pending = one.begin_acquire(Via::TokioMulti);
    one.event(&Event::Running(Callback::Start));
    let (name, _, instance, transition) = state();
    assert_eq!((&*name, instance), ("Starting", None));
    assert_eq!(transition, Some(one.pid()));

    one.proceed(START);
    let held = one.finish_acquire(pending).expect("acquire");
    let pid = Some(held.got.pid);
    assert_eq!(state(), ("Ready".to_owned(), 1, pid, None));
    assert_eq!(watcher.status().generation, held.got.generation);
    assert_eq!(held.got.generation, 1);

    scene.kill_only_instance();
    let (name, clients, _, transition) = state();
    assert_eq!((&*name, clients, transition), ("Dead", 1, None));

    one.proceed(START);
    let again = one.acquire();
    assert_eq!(again.got.generation, 2);
    one.release(&held);
    let releasing = one.begin(Command::Release {
        handle: again.handle,
        via: Via::TokioMulti,
    });
    one.event(&Event::Running(Callback::Stop));
    let (name, clients, _, transition) = state();
    assert_eq!((&*name, clients), ("Stopping", 0));
    assert_eq!(transition, Some(one.pid()));
    one.proceed(stop);
    assert_eq!(one.reply(releasing), Reply::Done);
    assert_eq!(state(), ("Absent".to_owned(), 0, None, None));
}

#[test]
fn g6_status_count_and_try_join_create_nothing() {
    let scene = scene!();
    let client = scene.actor();
    let key = client.build(&scene.service("unborn"));
    assert_eq!(client.count(), 0);
    assert_eq!(client.status().state, "Absent");
    assert_eq!(client.try_join(), Ok(None));
    assert!(!scene.exists(key));
    assert!(scene.files().is_empty());
}
