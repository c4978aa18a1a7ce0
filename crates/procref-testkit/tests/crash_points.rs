//! A process dies at every step that procref goes through: a client's when it
//! acquires, starts or lets go, and a supervisor's. Whatever is left then, the
//! next client can use the service, and nothing remains after it.
//!
//! The list of steps comes from the library, so a new one is tried here, too,
//! and fails the test unless it is said which kind of service goes through it.

#![cfg(target_os = "linux")]

use procref::CRASH_POINTS;
use procref_testkit::observe::supervisors_of;
use procref_testkit::protocol::{Command, HealthOutcome, Reply, ServiceSpec, Via};
use procref_testkit::{Actor, Scene, deadline, kernel, scene};
use rustix::process::Signal;

/// How a service is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Callback,
    Command,
}

/// Only a client that calls back gets there.
const CALLBACK: [&str; 8] = [
    "Supervised",
    "CalledBack",
    "PublishedUnready",
    "LeftLast",
    "PublishedStopping",
    "ServiceEnded",
    "PublishedNone",
    "RecordRemoved",
];

/// Only a service that procref executes gets there.
const COMMAND: [&str; 7] = [
    "Prepared",
    "Launched",
    "Executed",
    "ServiceForked",
    "ServicePublished",
    "StartSeen",
    "Resigned",
];

/// The supervisor gets there when its clients are gone.
const IDLE: [&str; 5] = [
    "FoundIdle",
    "SupervisorPublishedStopping",
    "SupervisorEndedService",
    "SupervisorPublishedNone",
    "SupervisorRemovedFiles",
];

/// Who stops the service on demand gets there.
const ON_DEMAND: [&str; 3] = ["EnteredToStop", "UnpinnedToStop", "ClearedToStop"];

/// Before there is a supervisor, nobody can remove the set of a starter that is killed. It has no
/// instance, and the next client takes it.
const BEFORE_SUPERVISOR: [&str; 4] = ["Entered", "Claimed", "Prepared", "LeftoverStopped"];

impl Kind {
    fn spec(self, scene: &Scene) -> ServiceSpec {
        let spec = match self {
            Self::Callback => scene.service("crash"),
            Self::Command => scene.command("crash"),
        };
        scene
            .unique(spec)
            .judging(HealthOutcome::Ask)
            .stop_within_ms(2000)
    }

    fn goes_through(self, point: &str) -> bool {
        // Where a start fails; there is a test for that alone.
        if point == "SettledNone" {
            return false;
        }
        match self {
            Self::Callback => !COMMAND.contains(&point),
            Self::Command => !CALLBACK.contains(&point),
        }
    }
}

fn set_exists(key: i32) -> bool {
    kernel::find(key).is_some()
}

fn wait_no_supervisor(spec: &ServiceSpec) {
    deadline::until_true("the supervisor ends", || {
        supervisors_of(&spec.name).is_empty()
    });
}

/// Somebody holds the service already where a step needs that.
fn holder(scene: &Scene, spec: &ServiceSpec, point: &str) -> Option<Actor> {
    let needed = matches!(point, "Joined" | "LeftoverStopped");
    let holder = needed.then(|| scene.holder(spec).0);
    if point == "LeftoverStopped" {
        scene.sicken(scene.only_living().pid);
    }
    holder
}

/// Does all that a client does. Tells whether that killed it, or its supervisor.
fn live_through(scene: &Scene, client: &Actor, spec: &ServiceSpec, key: i32, point: &str) -> bool {
    let pending = client.begin_acquire(Via::TokioMulti);
    if !matches!(client.reply_or_gone(pending), Ok(Reply::Acquired(_))) {
        return true;
    }
    // The supervisor's share of a start ends with the lock.
    deadline::until_true("the start is over", || {
        kernel::find(key).is_some_and(|set| set.value(LOCK).is_ok_and(|value| value == 0))
    });
    if point == "AboutToSleep" {
        // It is in place before it sleeps, and nobody waits for the latter.
        wait_no_supervisor(spec);
    }
    if supervisors_of(&spec.name).is_empty() {
        return true;
    }
    if point == "Resigned" && spec.command.is_some() {
        scene.only_living().signal(Signal::KILL);
        wait_no_supervisor(spec);
        return true;
    }
    if IDLE.contains(&point) {
        client.kill();
        wait_no_supervisor(spec);
        return set_exists(key);
    }
    let pending = if ON_DEMAND.contains(&point) {
        client.begin_stop(true, Via::TokioMulti)
    } else {
        client.begin(Command::DropAll)
    };
    client.reply_or_gone(pending).is_err()
}

const LOCK: usize = 1;

/// What a callback has spawned nobody knows of until the callback returns: the one gap, which a
/// command has not.
fn end_what_nobody_knows_of(scene: &Scene, point: &str) {
    if point == "CalledBack" {
        for stray in scene.living() {
            stray.signal(Signal::KILL);
            stray.wait_gone();
        }
    }
}

/// The next client finds nothing in its way, and leaves nothing.
#[track_caller]
fn all_is_well_for(scene: &Scene, next: &Actor, spec: &ServiceSpec, key: i32, point: &str) {
    let held = next
        .try_acquire(Via::TokioMulti)
        .unwrap_or_else(|failure| panic!("after {point}: {failure:?}"));
    assert_eq!(scene.only_living().pid, held.got.pid, "{point}");
    next.kill();
    scene.everything_ends(spec, key);
}

fn the_next_client_finds_nothing_in_its_way(kind: Kind) {
    for point in CRASH_POINTS {
        let scene = scene!();
        let spec = kind.spec(&scene);
        let holder = holder(&scene, &spec, point);
        let doomed = scene.doomed_actor(point);
        let key = doomed.build(&spec);
        let died = live_through(&scene, &doomed, &spec, key, point);
        assert_eq!(died, kind.goes_through(point), "{point}");
        end_what_nobody_knows_of(&scene, point);
        let next = scene.client(&spec);
        if let Some(holder) = holder {
            next.acquire();
            holder.kill();
        }
        doomed.kill();
        all_is_well_for(&scene, &next, &spec, key, point);
    }
}

#[test]
fn the_next_client_finds_nothing_in_its_way_by_callback() {
    the_next_client_finds_nothing_in_its_way(Kind::Callback);
}

#[test]
fn the_next_client_finds_nothing_in_its_way_by_command() {
    the_next_client_finds_nothing_in_its_way(Kind::Command);
}

fn who_waits_takes_over(kind: Kind) {
    // Without what a callback has spawned, which has to be ended before anybody else comes.
    let starts = CRASH_POINTS
        .iter()
        .take_while(|point| **point != "StartSeen");
    for point in starts.filter(|point| **point != "CalledBack") {
        let scene = scene!();
        let spec = kind.spec(&scene);
        let next = scene.client(&spec);
        let doomed = scene.doomed_actor(point);
        let key = doomed.build(&spec);
        // Both at once: whoever is second waits, joins, or takes over.
        let first = doomed.begin_acquire(Via::TokioMulti);
        let second = next.begin_acquire(Via::TokioMulti);
        let _ = doomed.reply_or_gone(first);
        let held = next
            .finish_acquire(second)
            .unwrap_or_else(|failure| panic!("after {point}: {failure:?}"));
        assert_eq!(scene.only_living().pid, held.got.pid, "{point}");
        doomed.kill();
        next.kill();
        scene.everything_ends(&spec, key);
    }
}

#[test]
fn who_waits_for_a_starter_that_dies_takes_over_by_callback() {
    who_waits_takes_over(Kind::Callback);
}

#[test]
fn who_waits_for_a_starter_that_dies_takes_over_by_command() {
    who_waits_takes_over(Kind::Command);
}

/// Steps of a starter that nobody else holds or waits for.
fn starts() -> impl Iterator<Item = &'static str> {
    let starts = CRASH_POINTS.iter().copied();
    let starts = starts.take_while(|point| *point != "SupervisorBegun");
    starts.filter(|point| !matches!(*point, "Joined" | "LeftoverStopped"))
}

fn a_starter_that_dies_alone_leaves_nothing(kind: Kind) {
    for point in starts().filter(|point| kind.goes_through(point)) {
        let scene = scene!();
        let spec = kind.spec(&scene);
        let doomed = scene.doomed_actor(point);
        let key = doomed.build(&spec);
        let pending = doomed.begin_acquire(Via::TokioMulti);
        assert!(doomed.reply_or_gone(pending).is_err(), "{point}");
        if BEFORE_SUPERVISOR.contains(&point) {
            assert!(scene.started().is_empty() && scene.files().len() <= 1);
            let next = scene.client(&spec);
            all_is_well_for(&scene, &next, &spec, key, point);
        } else {
            end_what_nobody_knows_of(&scene, point);
            scene.everything_ends(&spec, key);
        }
    }
}

#[test]
fn a_starter_that_dies_alone_leaves_nothing_by_callback() {
    a_starter_that_dies_alone_leaves_nothing(Kind::Callback);
}

#[test]
fn a_starter_that_dies_alone_leaves_nothing_by_command() {
    a_starter_that_dies_alone_leaves_nothing(Kind::Command);
}

/// What is not its any more, its supervisor removes: the set, and the files before.
#[test]
fn g6_a_starter_that_dies_while_it_clears_up_a_failed_start_leaves_nothing() {
    let scene = scene!();
    let spec = Kind::Command.spec(&scene).with_args(["--exit", "3"]);
    let doomed = scene.doomed_actor("SettledNone");
    let key = doomed.build(&spec);
    let pending = doomed.begin_acquire(Via::TokioMulti);
    assert!(doomed.reply_or_gone(pending).is_err(), "it does not die");
    scene.everything_ends(&spec, key);
}

/// It comes into place only when its starter is dead and the lock somebody else's, who waits for its own
/// supervisor, which waits for this one to go.
#[test]
fn a_supervisor_shares_the_lock_with_its_own_starter_alone() {
    let scene = scene!();
    let spec = Kind::Command.spec(&scene);
    let doomed = scene.actor_with_env(&[
        ("PROCREF_CRASH_POINT", "SupervisorForked"),
        ("PROCREF_SUSPEND_POINT", "SupervisorBegun"),
    ]);
    let key = doomed.build(&spec);
    let _ = doomed.begin_acquire(Via::TokioMulti);
    // Not by the end of its output, of which the supervisor has a copy still.
    doomed.wait_end();
    deadline::until_true("its supervisor has begun", || {
        supervisors_of(&spec.name)
            .iter()
            .any(|it| it.is_suspended())
    });
    let supervisor = scene.only_supervisor(&spec);

    let next = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "Prepared")]);
    next.build(&spec);
    let pending = next.begin_acquire(Via::TokioMulti);
    deadline::until_true("the next one has the lock", || {
        next.identity().is_suspended()
    });
    supervisor.signal(Signal::CONT);
    supervisor.wait_gone();
    next.identity().signal(Signal::CONT);
    let held = next.finish_acquire(pending).expect("a service");
    assert_eq!(held.got.pid, scene.only_living().pid);
    assert_eq!(
        held.got.generation, 1,
        "nothing was published by the other one"
    );
    next.kill();
    scene.everything_ends(&spec, key);
}

/// A signal that comes before the sleep begins does not end it. What it stands for is not slept through.
#[test]
fn a_service_that_dies_right_before_its_supervisor_sleeps_is_noticed() {
    let scene = scene!();
    let never = scene.root().join("never");
    let spec = scene
        .unique(scene.command("crash"))
        .with_args(["--wait-for"]);
    let spec = spec
        .with_args([never.to_string_lossy()])
        .start_within_ms(1_000_000);
    let client = scene.actor_with_env(&[("PROCREF_SUSPEND_POINT", "AboutToSleep")]);
    let key = client.build(&spec);
    let pending = client.begin_acquire(Via::TokioMulti);
    deadline::until_true("the service runs", || scene.started().len() == 1);
    let supervisor = scene.only_supervisor(&spec);
    deadline::until_true("its supervisor is about to sleep", || {
        supervisor.is_suspended()
    });
    let service = scene.only_living();
    service.signal(Signal::KILL);
    service.wait_gone();
    supervisor.signal(Signal::CONT);
    let failure = client.finish_acquire(pending).expect_err("it died");
    assert!(failure.text.contains("signal 9"), "{}", failure.text);
    scene.everything_ends(&spec, key);
}
