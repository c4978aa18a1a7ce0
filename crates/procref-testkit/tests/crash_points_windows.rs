//! A client dies by `TerminateProcess` at each step that it comes by. The next one finds everything as it
//! should be. On Linux, where supervisors die, too, `crash_points` is this.

#![cfg(windows)]

use procref::{CRASH_POINTS, CrashSite};
use procref_testkit::actor::Actor;
use procref_testkit::protocol::{Command, ServiceSpec, StopOutcome, Via};
use procref_testkit::{Scene, deadline, scene};

/// Has a client go a whole way alone; then another has to start, and find nobody beside it. At which steps somebody
/// died.
#[expect(clippy::print_stderr, reason = "what is not tried is told")]
fn die_everywhere(unknown: &[&str], spec: impl Fn(&Scene) -> ServiceSpec) -> Vec<&'static str> {
    // Of what a supervisor does elsewhere, a client does this here.
    let own = ["ServiceForked", "ServicePublished"];
    let points = CRASH_POINTS
        .iter()
        .filter(|point| point.site == CrashSite::Client || own.contains(&point.name));
    let mut died = Vec::new();
    for point in points {
        let name = point.name;
        if unknown.contains(&name) {
            eprintln!(
                "skipped {name}: what a callback has spawned nobody knows before it is published"
            );
            continue;
        }
        let scene = scene!();
        let spec = spec(&scene);
        let dying = scene.actor_crashing_at(name);
        dying.build(&spec);
        if goes_well(&dying) {
            continue;
        }
        dying.wait_end();
        died.push(name);
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
    died
}

/// False: it has died on its way.
fn goes_well(dying: &Actor) -> bool {
    let acquiring = dying.begin_acquire(Via::Pollster);
    if dying.reply_or_exit(acquiring).is_err() {
        return false;
    }
    let releasing = dying.begin(Command::DropAll);
    dying.reply_or_exit(releasing).is_ok()
}

fn check(died: &[&str], expected: &[&str]) {
    for point in expected {
        assert!(died.contains(point), "nobody died at {point}: {died:?}");
    }
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_command_step() {
    let died = die_everywhere(&[], |scene| scene.command("mortal"));
    check(
        &died,
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
    let died = die_everywhere(&["CalledBack"], |scene| {
        scene.service("mortal").with_stop(StopOutcome::Terminate)
    });
    check(
        &died,
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

fn takes_over(point: &str) {
    let scene = scene!();
    let spec = scene.command("mortal");
    let dying = scene.actor_crashing_at(point);
    let key = dying.build(&spec);
    let waiters = scene.clients(3, &spec);
    let dies = dying.begin_acquire(Via::Pollster);
    // Otherwise one of the others could be faster, and start it in place of who is to die.
    deadline::until_true("it starts the service, or has died", || {
        scene.is_locked(key) || !dying.identity().is_live()
    });
    let requests: Vec<_> = waiters
        .iter()
        .map(|waiter| waiter.begin_acquire(Via::Pollster))
        .collect();
    assert!(dying.reply_or_exit(dies).is_err(), "it does not die");
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
        takes_over(point);
    }
}
