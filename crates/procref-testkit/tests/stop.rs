//! Stopping a service on demand: `stop` if no client holds it, `force_stop` even if clients hold it.

#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use procref::Services;
use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{
    Callback, Event, Gate, HealthOutcome, Mismatch, Outcome, ServiceSpec, StopOutcome, Via,
};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};

/// Lists the names of the scene's services.
fn names(scene: &Scene) -> Vec<Option<String>> {
    let services = Services::in_dir(scene.runtime_dir()).expect("open");
    let listed = services.list().expect("list");
    let names = listed.iter().map(|it| it.name().map(str::to_owned));
    names.collect()
}

fn callback(scene: &Scene) -> ServiceSpec {
    let spec = scene.service("stop me").with_stop(StopOutcome::Terminate);
    scene.unique(spec)
}

fn command(scene: &Scene) -> ServiceSpec {
    scene.unique(scene.command("stop me"))
}

const SPECS: [fn(&Scene) -> ServiceSpec; 2] = [callback, command];

#[test]
fn stop_ends_an_unheld_pinned_or_lingering_service() {
    for spec in SPECS {
        for via in Via::ALL {
            for pinned in [false, true] {
                let scene = scene!();
                let mut spec = spec(&scene);
                if !pinned {
                    spec = spec.with_linger_ms(3_600_000);
                    // A lingering service cannot have `on_last_release`, because no client is left
                    // to call it.
                    spec.stop = None;
                }
                let client = scene.actor();
                let key = client.build(&spec);
                let held = client.acquire();
                if pinned {
                    client.pin(&held);
                }
                client.release(&held);
                let service = scene.only_instance();
                assert_eq!(client.stop(false, via), Ok(true));
                // `stop` has waited until the service exited.
                assert!(!service.is_live());
                assert_eq!(kernel::find(key), None);
                assert!(scene.files().is_empty(), "{:?}", scene.files());
                assert_eq!(scene.stopped(), [(service.pid, "signal 15".to_owned())]);
                assert_eq!(client.stop(false, via), Ok(false));
                deadline::until_true("the supervisor exits", || {
                    supervisors_of(&spec.name).is_empty()
                });
            }
        }
    }
}

#[test]
fn stop_refuses_a_held_service_and_names_the_client() {
    for spec in SPECS {
        let scene = scene!();
        let spec = spec(&scene);
        let (holder, key) = scene.holder(&spec);
        let other = scene.client(&spec);
        let service = scene.only_instance();
        for (client, via) in [
            (&other, Via::Blocking),
            (&other, Via::Smol),
            (&holder, Via::TokioMulti),
        ] {
            let failure = client
                .stop(false, via)
                .expect_err("a client holds the service");
            let expected = format!("not stopped: 1 client holds it (process {})", holder.pid());
            assert!(failure.text.contains(&expected), "{}", failure.text);
        }
        assert!(service.is_live());
        assert_eq!((holder.count(), scene.started().len()), (1, 1));
        holder.kill();
        scene.wait_removed(&spec, key);
    }
}

/// The only client is in the middle of its start and has the lock. The start may still fail, so
/// `stop` waits before it reports that a client holds the service.
#[test]
fn stop_waits_for_a_start_and_then_names_the_client() {
    let scene = scene!();
    let gate = Gate::Before(Callback::Start);
    let spec = callback(&scene);
    let (starter, _, start) = scene.client_at_gate(&spec, gate, Via::Smol);
    let other = scene.client(&spec);
    let key = other.build(&spec);
    let stop = other.begin_stop(false, Via::Smol);
    scene.wait_sleepers(key, 1);
    starter.proceed(gate);
    let held = starter.finish_acquire(start).expect("acquire");
    let failure = other
        .finish_stop(stop)
        .expect_err("a client holds the service");
    let expected = format!("1 client holds it (process {})", starter.pid());
    assert!(failure.text.contains(&expected), "{}", failure.text);
    starter.release(&held);
    scene.assert_clean();
}

#[test]
fn stop_waits_for_another_stop() {
    for is_held in [false, true] {
        let scene = scene!();
        let spec = callback(&scene).with_gates([Gate::Before(Callback::Stop)]);
        let (holder, key) = scene.holder(&spec);
        let first = scene.client(&spec);
        let stop = first.begin_stop(true, Via::Smol);
        first.event(&Event::Running(Callback::Stop));
        if !is_held {
            holder.kill();
        }
        let second = scene.client(&spec);
        let waiting = second.begin_stop(false, Via::Smol);
        scene.wait_sleepers(key, 1);
        first.proceed(Gate::Before(Callback::Stop));
        assert_eq!(first.finish_stop(stop), Ok(true));
        let second = second.finish_stop(waiting);
        if is_held {
            let failure = second.expect_err("a client holds the service");
            let expected = format!("1 client holds it (process {})", holder.pid());
            assert!(failure.text.contains(&expected), "{}", failure.text);
            holder.kill();
        } else {
            assert_eq!(second, Ok(false));
        }
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn forced_stop_keeps_references_and_wakes_death_waits() {
    for spec in SPECS {
        let scene = scene!();
        let spec = spec(&scene);
        let holders = scene.clients(3, &spec);
        let held: Vec<_> = holders.iter().map(Actor::acquire).collect();
        let first = scene.only_instance();
        let waits: Vec<_> = holders
            .iter()
            .zip(&held)
            .map(|(holder, held)| holder.begin_wait_dead(held, 1, Via::Pollster))
            .collect();
        let other = scene.client(&spec);
        assert_eq!(other.stop(true, Via::Blocking), Ok(true));
        assert!(!first.is_live());
        assert_eq!(other.count(), 3);
        assert_eq!(
            (&*other.status().state, other.status().instance),
            ("Absent", None)
        );
        assert_eq!(scene.files(), scene.records(), "the log is removed");
        assert_eq!(names(&scene), [Some(spec.name.clone())]);
        for ((holder, wait), held) in holders.iter().zip(waits).zip(&held) {
            holder.finish_wait(wait);
            assert_eq!(
                holder.current(held).expect("get the current instance"),
                None
            );
        }
        assert_eq!(other.stop(true, Via::Blocking), Ok(false), "nothing runs");
        // A holder starts the service again, and other clients join it.
        let again = holders[0].acquire();
        let second = scene.only_instance();
        assert_eq!((again.got.pid, again.got.generation), (second.pid, 2));
        assert_eq!(other.acquire().got.pid, second.pid);
        let key = other.build(&spec);
        for client in holders.iter().chain([&other]) {
            client.kill();
        }
        scene.wait_removed(&spec, key);
    }
}

/// The record keeps the name after a forced stop, until the last holder releases or is killed.
#[test]
fn g6_name_stays_listed_after_a_forced_stop_until_unheld() {
    let specs: [fn(&Scene) -> ServiceSpec; 4] = [
        callback,
        command,
        |scene| scene.unique(scene.service("stop me").with_starts([Outcome::OwnPid])),
        |scene| command(scene).with_fingerprint("v1", Mismatch::Separate),
    ];
    for spec in specs {
        for is_killed in [false, true] {
            let scene = scene!();
            let spec = spec(&scene);
            let (holder, other) = (scene.client(&spec), scene.client(&spec));
            let held = holder.acquire();
            let key = other.build(&spec);
            assert_eq!(other.stop(true, Via::Blocking), Ok(true));
            let expected = [Some(spec.name.clone())];
            assert_eq!(names(&scene), expected);
            // The record names no process, so there is nothing to stop.
            assert_eq!(other.stop(true, Via::Blocking), Ok(false));
            assert_eq!(names(&scene), expected);
            let record = fs::read_to_string(&scene.records()[0]).expect("read the record");
            let pid = format!("\"pid\": {},", held.got.pid);
            assert!(
                record.contains("\"pid\": 0,") && !record.contains(&pid),
                "{record}"
            );
            if is_killed {
                holder.kill();
            } else {
                holder.release(&held);
            }
            scene.wait_removed(&spec, key);
        }
    }
}

#[test]
fn forced_stop_by_a_holder_keeps_its_reference() {
    for spec in SPECS {
        let scene = scene!();
        let spec = spec(&scene);
        let (holder, key) = scene.holder(&spec);
        assert_eq!(holder.stop(true, Via::TokioCurrent), Ok(true));
        assert!(scene.living().is_empty());
        assert_eq!(holder.count(), 1);
        holder.kill();
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn forced_stop_ends_the_process_tree_of_a_command() {
    let scene = scene!();
    // The worker has its own session and ignores SIGTERM, so only SIGKILL ends it.
    let spec = command(&scene)
        .with_args(["--workers-ignoring-sigterm", "1"])
        .with_stop_timeout_ms(500);
    let (holder, key) = scene.holder(&spec);
    let workers = scene.workers();
    assert_eq!(workers.len(), 1);
    let other = scene.client(&spec);
    assert_eq!(other.stop(true, Via::Blocking), Ok(true));
    assert!(!workers[0].is_live());
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn forced_stop_kills_after_the_starters_grace() {
    let scene = scene!();
    let spec = command(&scene)
        .with_args(["--ignore-sigterm"])
        .with_stop_timeout_ms(300);
    let (holder, key) = scene.holder(&spec);
    // The grace of the client that stops the service does not count.
    let other = scene.client(&spec.clone().with_stop_timeout_ms(3_600_000));
    assert_eq!(other.stop(true, Via::Blocking), Ok(true));
    assert!(scene.living().is_empty());
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn forced_stop_waits_for_a_start_and_delays_later_clients() {
    let scene = scene!();
    let spec =
        callback(&scene).with_gates([Gate::Before(Callback::Start), Gate::Before(Callback::Stop)]);
    let starter = scene.client(&spec);
    let start = starter.begin_acquire(Via::Smol);
    starter.event(&Event::Running(Callback::Start));
    let stopper = scene.client(&spec);
    let key = stopper.build(&spec);
    let stop = stopper.begin_stop(true, Via::Smol);
    scene.wait_sleepers(key, 1);
    starter.proceed(Gate::Before(Callback::Start));
    starter.finish_acquire(start).expect("acquire");
    stopper.event(&Event::Running(Callback::Stop));
    let joiner = scene.client(&spec);
    let join = joiner.begin_acquire(Via::Smol);
    scene.wait_sleepers(key, 1);
    stopper.proceed(Gate::Before(Callback::Stop));
    assert_eq!(stopper.finish_stop(stop), Ok(true));
    joiner.event(&Event::Running(Callback::Start));
    joiner.proceed(Gate::Before(Callback::Start));
    assert_eq!(
        joiner.finish_acquire(join).expect("acquire").got.generation,
        2
    );
    scene.assert_single_instance();
    starter.kill();
    joiner.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g9_cancelled_stop_is_finished() {
    let scene = scene!();
    let spec = callback(&scene).with_gates([Gate::Before(Callback::Stop)]);
    let (holder, key) = scene.holder(&spec);
    let service = scene.only_instance();
    let stopper = scene.client(&spec);
    let stop = stopper.begin_stop(true, Via::TokioMulti);
    stopper.event(&Event::Running(Callback::Stop));
    assert!(stopper.cancel(stop));
    stopper.proceed(Gate::Before(Callback::Stop));
    service.wait_exit();
    deadline::until_true("the lock is free", || {
        kernel::find(key).is_some_and(|set| set.value(1).is_ok_and(|lock| lock == 0))
    });
    assert_eq!(holder.count(), 1);
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_stop_killed_halfway_is_finished_by_the_next_stop() {
    let scene = scene!();
    let spec = command(&scene).with_health(HealthOutcome::Query);
    let (holder, key) = scene.holder(&spec);
    let crashing = scene.actor_crashing_at("PublishedStopping");
    crashing.build(&spec);
    let stop = crashing.begin_stop(true, Via::Blocking);
    assert!(
        crashing.reply_or_exit(stop).is_err(),
        "the client was killed at the step"
    );
    let old = scene.only_instance();
    let other = scene.client(&spec);
    assert_eq!(other.stop(true, Via::Blocking), Ok(true));
    assert!(!old.is_live());
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn stop_ends_an_orphan_without_a_supervisor() {
    let scene = scene!();
    let spec = callback(&scene).with_orphans_kept();
    let (holder, key) = scene.holder(&spec);
    holder.kill();
    let service = scene.only_instance();
    let other = scene.client(&spec);
    assert_eq!(other.stop(false, Via::Blocking), Ok(true));
    assert!(!service.is_live());
    scene.wait_removed(&spec, key);
}

#[test]
fn g6_stop_clears_a_dead_service_and_creates_nothing() {
    let scene = scene!();
    let spec = command(&scene);
    let client = scene.actor();
    let key = client.build(&spec);
    assert_eq!(client.stop(false, Via::Blocking), Ok(false));
    assert_eq!(client.stop(true, Via::Smol), Ok(false));
    assert_eq!(kernel::find(key), None);
    let (holder, _) = scene.holder(&spec);
    scene.kill_only_instance();
    assert!(client.stop(true, Via::Blocking).is_ok());
    holder.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn ready_wait_sleeps_until_the_service_is_ready() {
    for spec in SPECS {
        for via in [Via::Blocking, Via::Smol, Via::TokioMulti] {
            let scene = scene!();
            let spec = spec(&scene);
            let waiter = scene.client(&spec);
            let wait = waiter.begin_wait_ready(5, via);
            deadline::until_true("the waiter sleeps", || waiter.identity().threads() > 2);
            let before = waiter.identity().cpu_time();
            std::thread::sleep(Duration::from_millis(300));
            let spent = waiter.identity().cpu_time().saturating_sub(before);
            assert!(
                spent < Duration::from_millis(30),
                "the waiter polls: {spent:?}"
            );
            assert!(!waiter.has_replied(&wait));
            let (holder, key) = scene.holder(&spec);
            waiter.finish_wait(wait);
            assert_eq!(waiter.count(), 1, "the waiter takes no reference");
            // Now the wait returns at once.
            let wait = waiter.begin_wait_ready(1, via);
            waiter.finish_wait(wait);
            holder.kill();
            scene.wait_removed(&spec, key);
        }
    }
}

#[test]
fn ready_wait_continues_after_a_failed_start() {
    let scene = scene!();
    let failing = command(&scene).with_args(["--exit", "3", "--exit-after", "0"]);
    let waiter = scene.client(&failing);
    let wait = waiter.begin_wait_ready(2, Via::Smol);
    let starter = scene.client(&failing);
    starter
        .try_acquire(Via::Smol)
        .expect_err("the program exits");
    assert!(!waiter.has_replied(&wait));
    let mut working = failing.clone();
    if let Some(command) = &mut working.command {
        command.args.clear();
    }
    let (holder, key) = scene.holder(&working);
    waiter.finish_wait(wait);
    holder.kill();
    scene.wait_removed(&working, key);
}
