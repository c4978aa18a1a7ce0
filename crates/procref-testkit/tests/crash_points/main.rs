//! A process dies at every step of procref that changes something. The process is a client that
//! acquires, starts, stops, releases or cleans up, a supervisor, a service before its program is
//! executed, or a keeper. It dies alone, and while two other clients are in the middle of an acquire. Then other
//! clients can use the service, there are never two live instances, and nothing is left after the
//! last client.
//!
//! The list of steps comes from the library, so these tests also try a new step. They fail unless
//! [`scenarios::scenario`] defines how a process reaches it. A keeper reaches most of its steps many times, and
//! dies at each of them: see [`keepers`].

#![cfg(target_os = "linux")]

mod gc;
mod in_flight;
mod keepers;
mod scenarios;
mod steps;
mod supervisors;

use std::collections::BTreeSet;

use procref::{CRASH_POINTS, CrashSite};
use procref_testkit::protocol::Via;
use procref_testkit::scene;

use crate::in_flight::{InFlightCrash, is_unknown_service_gap, kill_unknown_services};
use crate::scenarios::{Kind, Scenario, scenario};

/// At least one kind of service reaches each step.
#[test]
fn crash_points_all_have_a_scenario() {
    let names: BTreeSet<_> = CRASH_POINTS.iter().map(|point| point.name).collect();
    assert_eq!(
        names.len(),
        CRASH_POINTS.len(),
        "two points have the same name"
    );
    for point in CRASH_POINTS {
        if point.site == CrashSite::Keeper {
            continue;
        }
        let kinds = [Kind::Callback, Kind::Command];
        assert!(
            kinds
                .into_iter()
                .any(|kind| scenario(kind, point).is_some()),
            "{}",
            point.name
        );
    }
}

/// The starter has cleared the instance, so its supervisor must remove the files and then the set.
#[test]
fn g6_starter_killed_clearing_a_failed_start_leaves_nothing() {
    let scene = scene!();
    let spec =
        Scenario::StartFails.crashing_spec(&Scenario::StartFails.spec(Kind::Command, &scene));
    let crashing = scene.actor_crashing_at("SettledNone");
    let key = crashing.build(&spec);
    let pending = crashing.begin_acquire(Via::TokioMulti);
    assert!(
        crashing.reply_or_exit(pending).is_err(),
        "the starter does not die"
    );
    scene.wait_removed(&spec, key);
}

/// Crashes at every `parts`th step, beginning with step `part`. Several tests share the steps
/// because the tests of a file run in parallel.
fn crash_at_each_point(kind: Kind, others: usize, part: usize, parts: usize) {
    let points = CRASH_POINTS.iter().skip(part).step_by(parts);
    for point in points {
        // The unknown service of a callback must be killed before another client acquires, so these points
        // have no clients in flight.
        let is_gap = others > 0 && is_unknown_service_gap(point);
        if let Some(scenario) = scenario(kind, point).filter(|_| !is_gap) {
            InFlightCrash::run(kind, point, scenario, others);
        }
    }
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_step_by_callback() {
    crash_at_each_point(Kind::Callback, 0, 0, 1);
}

#[test]
fn g6_next_client_works_after_a_crash_at_any_step_by_command() {
    crash_at_each_point(Kind::Command, 0, 0, 1);
}

#[test]
fn g4_in_flight_clients_survive_callback_crashes_even_points() {
    crash_at_each_point(Kind::Callback, 2, 0, 2);
}

#[test]
fn g4_in_flight_clients_survive_callback_crashes_odd_points() {
    crash_at_each_point(Kind::Callback, 2, 1, 2);
}

#[test]
fn g4_in_flight_clients_survive_command_crashes_even_points() {
    crash_at_each_point(Kind::Command, 2, 0, 2);
}

#[test]
fn g4_in_flight_clients_survive_command_crashes_odd_points() {
    crash_at_each_point(Kind::Command, 2, 1, 2);
}

/// At these steps the starter has no supervisor yet, so no process can remove its set if it is
/// killed. The set has no instance, and the next client uses it.
const BEFORE_SUPERVISOR: [&str; 3] = ["Entered", "Announced", "Prepared"];

fn assert_lone_starter_leaves_nothing(kind: Kind) {
    let starts = CRASH_POINTS
        .iter()
        .take_while(|point| point.name != "AttendantStarted");
    let starts = starts.filter(|point| scenario(kind, point) == Some(Scenario::Alone));
    for point in starts.filter(|point| point.site == CrashSite::Client) {
        let scene = scene!();
        let spec = Scenario::Alone.spec(kind, &scene);
        let crashing = scene.actor_crashing_at(point.name);
        let key = crashing.build(&spec);
        let pending = crashing.begin_acquire(Via::TokioMulti);
        assert!(crashing.reply_or_exit(pending).is_err(), "{}", point.name);
        if BEFORE_SUPERVISOR.contains(&point.name) {
            assert!(scene.started().is_empty() && scene.files().len() <= 1);
            let next = scene.client(&spec);
            next.acquire();
            next.kill();
        } else {
            kill_unknown_services(&scene, point);
        }
        scene.wait_removed(&spec, key);
    }
}

#[test]
fn g6_lone_starter_killed_at_any_step_leaves_nothing_callback() {
    assert_lone_starter_leaves_nothing(Kind::Callback);
}

#[test]
fn g6_lone_starter_killed_at_any_step_leaves_nothing_command() {
    assert_lone_starter_leaves_nothing(Kind::Command);
}
