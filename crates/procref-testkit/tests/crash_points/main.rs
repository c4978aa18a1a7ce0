//! A process dies at every step that procref goes through: a client's when it acquires, starts, stops, lets
//! go or cleans up, a supervisor's, and a service's before its program is executed. It dies alone, and
//! while two others are in the middle of an acquire. Whatever is left then, others can use the service,
//! never two live at once, and nothing remains after the last.
//!
//! The list of steps comes from the library, so a new one is tried here, too, and fails the test unless
//! it is said how somebody comes there.

#![cfg(target_os = "linux")]

mod gc;
mod in_flight;
mod scenarios;
mod steps;
mod supervisors;

use std::collections::BTreeSet;

use procref::{CRASH_POINTS, CrashSite};
use procref_testkit::protocol::Via;
use procref_testkit::scene;

use crate::in_flight::{Flight, end_what_nobody_knows_of, is_gap};
use crate::scenarios::{Kind, Way, way};

/// A step is gone through by one kind of service at least.
#[test]
fn crash_points_all_have_a_scenario() {
    let names: BTreeSet<_> = CRASH_POINTS.iter().map(|point| point.name).collect();
    assert_eq!(names.len(), CRASH_POINTS.len(), "two points of one name");
    for point in CRASH_POINTS {
        let kinds = [Kind::Callback, Kind::Command];
        assert!(
            kinds.into_iter().any(|kind| way(kind, point).is_some()),
            "{}",
            point.name
        );
    }
}

/// What is not its any more, its supervisor removes: the set, and the files before.
#[test]
fn g6_starter_killed_clearing_a_failed_start_leaves_nothing() {
    let scene = scene!();
    let spec = Way::Fails.own_spec(&Way::Fails.spec(Kind::Command, &scene));
    let doomed = scene.actor_crashing_at("SettledNone");
    let key = doomed.build(&spec);
    let pending = doomed.begin_acquire(Via::TokioMulti);
    assert!(doomed.reply_or_exit(pending).is_err(), "it does not die");
    scene.wait_removed(&spec, key);
}

/// Every `parts`th step, from this one on: the tests of a file run side by side.
fn die_at_each(kind: Kind, others: usize, part: usize, parts: usize) {
    let points = CRASH_POINTS.iter().skip(part).step_by(parts);
    for point in points {
        // What a callback has spawned has to be ended before anybody else comes: the one gap.
        let gap = others > 0 && is_gap(point);
        if let Some(way) = way(kind, point).filter(|_| !gap) {
            Flight::run(kind, point, way, others);
        }
    }
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_step_by_callback() {
    die_at_each(Kind::Callback, 0, 0, 1);
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_step_by_command() {
    die_at_each(Kind::Command, 0, 0, 1);
}

#[test]
fn g4_in_flight_clients_survive_callback_crashes_even_points() {
    die_at_each(Kind::Callback, 2, 0, 2);
}

#[test]
fn g4_in_flight_clients_survive_callback_crashes_odd_points() {
    die_at_each(Kind::Callback, 2, 1, 2);
}

#[test]
fn g4_in_flight_clients_survive_command_crashes_even_points() {
    die_at_each(Kind::Command, 2, 0, 2);
}

#[test]
fn g4_in_flight_clients_survive_command_crashes_odd_points() {
    die_at_each(Kind::Command, 2, 1, 2);
}

/// Before there is a supervisor, nobody can remove the set of a starter that is killed. It has no
/// instance, and the next client takes it.
const BEFORE_SUPERVISOR: [&str; 3] = ["Entered", "Announced", "Prepared"];

fn a_starter_that_dies_alone_leaves_nothing(kind: Kind) {
    let starts = CRASH_POINTS
        .iter()
        .take_while(|point| point.name != "AttendantStarted");
    let starts = starts.filter(|point| way(kind, point) == Some(Way::Alone));
    for point in starts.filter(|point| point.site == CrashSite::Client) {
        let scene = scene!();
        let spec = Way::Alone.spec(kind, &scene);
        let doomed = scene.actor_crashing_at(point.name);
        let key = doomed.build(&spec);
        let pending = doomed.begin_acquire(Via::TokioMulti);
        assert!(doomed.reply_or_exit(pending).is_err(), "{}", point.name);
        if BEFORE_SUPERVISOR.contains(&point.name) {
            assert!(scene.started().is_empty() && scene.files().len() <= 1);
            let next = scene.client(&spec);
            next.acquire();
            next.kill();
        } else {
            end_what_nobody_knows_of(&scene, point);
        }
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g6_lone_starter_killed_at_any_step_leaves_nothing_callback() {
    a_starter_that_dies_alone_leaves_nothing(Kind::Callback);
}

#[test]
fn g6_lone_starter_killed_at_any_step_leaves_nothing_command() {
    a_starter_that_dies_alone_leaves_nothing(Kind::Command);
}
