//! A keeper dies at each of its steps, and its successor continues. Every change happens exactly once: the clients
//! share one instance, and their number is right.

use procref::{CRASH_POINTS, CrashPoint, CrashSite};
use procref_testkit::kernel::with_keepers;
use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::Via;
use procref_testkit::{deadline, scene};

use crate::in_flight::{kill_unknown_services, wait_crashed};
use crate::scenarios::{Kind, Scenario, kill_supervisors};

/// The numbers of times that a keeper passes a point before it dies there. A service with three clients needs about
/// sixty requests and changes.
const SURVIVED: [u32; 10] = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55];

/// Lets a keeper die at a point, while three clients share a service. Returns `false` if it does not pass the point as
/// often.
fn crash(kind: Kind, point: &CrashPoint, survived: u32) -> bool {
    let scene = scene!();
    let spec = Scenario::Alone.spec(kind, &scene);
    let mark = scene.root().join("died");
    let choosing = scene.actor_with_env(&[
        ("PROCREF_CRASH_POINT", point.name),
        ("PROCREF_CRASH_SURVIVED", &survived.to_string()),
        ("PROCREF_CRASH_MARK", &mark.to_string_lossy()),
    ]);
    let key = choosing.build(&spec);
    let others = scene.clients(2, &spec);
    let first = choosing.begin_acquire(Via::TokioMulti);
    // The supervisor of the start may die with the keeper, and then the start fails.
    let is_started = choosing.finish_acquire(first).is_ok();
    kill_unknown_services(&scene, point);
    let requests: Vec<_> = others
        .iter()
        .map(|it| it.begin_acquire(Via::TokioMulti))
        .collect();
    for (other, request) in others.iter().zip(requests) {
        let held = other.finish_acquire(request);
        let held = held.unwrap_or_else(|failure| panic!("after {}: {failure:?}", point.name));
        assert_eq!(held.got.pid, scene.only_instance().pid, "{}", point.name);
    }
    let (one, other) = (&others[0], &others[1]);
    assert_eq!(one.count(), 2 + u32::from(is_started), "{}", point.name);
    choosing.kill();
    assert_eq!(other.count(), 2, "{}", point.name);
    one.kill();
    assert_eq!(other.count(), 1, "{}", point.name);
    other.kill();
    deadline::until_true("the keeper dies, or exits with the service", || {
        mark.exists() || supervisors_of(&spec.name).is_empty()
    });
    let is_dead = mark.exists();
    match is_dead {
        true => wait_crashed("the keeper dies", &mark),
        false => kill_supervisors(&spec),
    }
    let next = scene.client(&spec);
    let held = next.acquire();
    assert_eq!(held.got.pid, scene.only_instance().pid, "{}", point.name);
    assert_eq!(next.count(), 1, "{}", point.name);
    next.kill();
    scene.wait_removed(&spec, key);
    is_dead
}

/// Lets a keeper die at each passage of the points with these names, and fails if it does not reach one of them.
fn crash_at_points(kind: Kind, names: &[&str]) {
    for point in CRASH_POINTS.iter().filter(|it| names.contains(&it.name)) {
        let died = SURVIVED
            .iter()
            .take_while(|&&survived| crash(kind, point, survived));
        assert!(
            died.count() > 0,
            "{kind:?}: no keeper reaches {}",
            point.name
        );
    }
}

const REQUESTS: [&str; 2] = ["RequestReceived", "AnswerSent"];
const CHANGES: [&str; 3] = ["ChangeRecorded", "ChangeCommitted", "ChangeApplied"];
const LAUNCHES: [&str; 2] = ["OrderRead", "LaunchBegun"];
const ENDS: [&str; 5] = [
    "DeathSeen",
    "DeathHandled",
    "SupervisorEnded",
    "ObjectRemoved",
    "FilesUnlinked",
];

#[test]
fn keeper_crash_points_are_all_tested() {
    let tested = [&REQUESTS[..], &CHANGES, &LAUNCHES, &ENDS].concat();
    let points = CRASH_POINTS
        .iter()
        .filter(|it| it.site == CrashSite::Keeper);
    assert!(points.clone().all(|it| tested.contains(&it.name)));
    assert_eq!(points.count(), tested.len());
}

#[test]
fn g2_keeper_killed_at_each_request_loses_nothing_by_callback() {
    with_keepers(
        "keepers::g2_keeper_killed_at_each_request_loses_nothing_by_callback",
        || {
            crash_at_points(Kind::Callback, &REQUESTS);
        },
    );
}

#[test]
fn g2_keeper_killed_at_each_request_loses_nothing_by_command() {
    with_keepers(
        "keepers::g2_keeper_killed_at_each_request_loses_nothing_by_command",
        || {
            crash_at_points(Kind::Command, &REQUESTS);
        },
    );
}

#[test]
fn g2_keeper_killed_at_each_change_loses_nothing_by_callback() {
    with_keepers(
        "keepers::g2_keeper_killed_at_each_change_loses_nothing_by_callback",
        || {
            crash_at_points(Kind::Callback, &CHANGES);
        },
    );
}

#[test]
fn g2_keeper_killed_at_each_change_loses_nothing_by_command() {
    with_keepers(
        "keepers::g2_keeper_killed_at_each_change_loses_nothing_by_command",
        || {
            crash_at_points(Kind::Command, &CHANGES);
        },
    );
}

#[test]
fn g2_keeper_killed_at_each_end_loses_nothing_by_callback() {
    with_keepers(
        "keepers::g2_keeper_killed_at_each_end_loses_nothing_by_callback",
        || {
            crash_at_points(Kind::Callback, &ENDS);
        },
    );
}

#[test]
fn g2_keeper_killed_at_each_end_loses_nothing_by_command() {
    with_keepers(
        "keepers::g2_keeper_killed_at_each_end_loses_nothing_by_command",
        || {
            crash_at_points(Kind::Command, &ENDS);
        },
    );
}

#[test]
fn g1_keeper_killed_at_each_step_of_a_launch_loses_nothing() {
    with_keepers(
        "keepers::g1_keeper_killed_at_each_step_of_a_launch_loses_nothing",
        || {
            crash_at_points(Kind::Command, &LAUNCHES);
        },
    );
}
