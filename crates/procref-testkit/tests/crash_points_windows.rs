//! A client is killed by `TerminateProcess` at each step that it reaches, and the next client must
//! work. On Linux, where supervisors can die, too, `crash_points` is the counterpart.

#![cfg(windows)]

use procref::{CRASH_POINTS, CrashSite};
use procref_testkit::actor::Actor;
use procref_testkit::protocol::{Command, ServiceSpec, StopOutcome, Via};
use procref_testkit::{Scene, deadline, scene};

/// Runs one client alone until it dies at a step. Then another client must start the service and be
/// the only one. Returns the steps at which a client died.
#[expect(clippy::print_stderr, reason = "skipped steps are reported")]
fn crash_at_each_step(unknown: &[&str], spec: impl Fn(&Scene) -> ServiceSpec) -> Vec<&'static str> {
    // On Windows, a client takes these steps of a supervisor.
    let own = ["ServiceForked", "ServicePublished"];
    let points = CRASH_POINTS
        .iter()
        .filter(|point| point.site == CrashSite::Client || own.contains(&point.name));
    let mut crashed = Vec::new();
    for point in points {
        let name = point.name;
        if unknown.contains(&name) {
            eprintln!(
                "skipped {name}: no other process knows the callback's service before it is published"
            );
            continue;
        }
        let scene = scene!();
        let spec = spec(&scene);
        let crashing = scene.actor_crashing_at(name);
        crashing.build(&spec);
        if survives(&crashing) {
            continue;
        }
        crashing.wait_end();
        crashed.push(name);
        let other = scene.client(&spec);
        let held = other.try_acquire(Via::Pollster);
        let held = held.unwrap_or_else(|failure| panic!("after a death at {name}: {failure:#?}"));
        let living = scene.only_instance();
        assert_eq!(held.got.pid, living.pid, "after a death at {name}");
        assert_eq!(other.count(), 1, "after a death at {name}");
        other.release(&held);
        scene.assert_single_instance();
        scene.assert_clean();
    }
    crashed
}

/// Returns `false` if the client died while it acquired or released.
fn survives(crashing: &Actor) -> bool {
    let acquiring = crashing.begin_acquire(Via::Pollster);
    if crashing.reply_or_exit(acquiring).is_err() {
        return false;
    }
    let releasing = crashing.begin(Command::DropAll);
    crashing.reply_or_exit(releasing).is_ok()
}

fn assert_crashed_at(crashed: &[&str], expected: &[&str]) {
    for point in expected {
        assert!(
            crashed.contains(point),
            "no client died at {point}: {crashed:?}"
        );
    }
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_command_step() {
    let crashed = crash_at_each_step(&[], |scene| scene.command("crash"));
    assert_crashed_at(
        &crashed,
        &[
            "Entered",
            "Announced",
            "Prepared",
            "ServiceForked",
            "ServicePublished",
            "Launched",
            "Recorded",
            "Executed",
            "PublishedReady",
            "LeftLast",
            "PublishedStopping",
            "ServiceEnded",
            "PublishedNone",
            "RecordRemoved",
        ],
    );
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_callback_step() {
    let crashed = crash_at_each_step(&["CalledBack"], |scene| {
        scene.service("crash").with_stop(StopOutcome::Terminate)
    });
    assert_crashed_at(
        &crashed,
        &[
            "Entered",
            "PublishedUnready",
            "Recorded",
            "PublishedReady",
            "LeftLast",
            "PublishedStopping",
            "ServiceEnded",
            "PublishedNone",
            "RecordRemoved",
        ],
    );
}

fn assert_waiters_take_over(point: &str) {
    let scene = scene!();
    let spec = scene.command("crash");
    let crashing = scene.actor_crashing_at(point);
    let key = crashing.build(&spec);
    let waiters = scene.clients(3, &spec);
    let starting = crashing.begin_acquire(Via::Pollster);
    // Without this wait, one of the other clients could start the service instead.
    deadline::until_true("the client has the lock or is dead", || {
        scene.is_locked(key) || !crashing.identity().is_live()
    });
    let requests: Vec<_> = waiters
        .iter()
        .map(|waiter| waiter.begin_acquire(Via::Pollster))
        .collect();
    assert!(
        crashing.reply_or_exit(starting).is_err(),
        "the client does not die"
    );
    let mut held = Vec::new();
    for (waiter, pending) in waiters.iter().zip(requests) {
        let got = waiter.finish_acquire(pending);
        held.push(got.unwrap_or_else(|failure| panic!("{point}: {failure:#?}")));
    }
    let living = scene.only_instance();
    assert!(held.iter().all(|it| it.got.pid == living.pid), "{held:?}");
    for (waiter, held) in waiters.iter().zip(&held) {
        waiter.release(held);
    }
    scene.assert_single_instance();
    scene.assert_clean();
}

#[test]
fn g4_waiter_takes_over_when_the_starter_crashes() {
    for point in ["Launched", "Executed", "Answering"] {
        assert_waiters_take_over(point);
    }
}
