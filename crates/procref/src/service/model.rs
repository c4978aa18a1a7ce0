//! The real engine on a made-up machine, through every order of steps.

mod explore;
mod invariants;
mod machine;
mod planted;
mod run;
mod scenario;
mod sim;
mod suite;
mod supervisor;
mod world;

use explore::{Explored, Found, search};
use scenario::Scenario;

use std::fmt;

#[expect(clippy::print_stdout, reason = "figures are what it is run for")]
fn tell(line: impl fmt::Display) {
    println!("{line}");
}

fn told(scenario: &Scenario, explored: &Explored) -> String {
    let Explored {
        schedules,
        states,
        steps,
        depth,
        time,
    } = explored;
    format!(
        "{:40} {schedules:>9} schedules {states:>9} states {steps:>11} steps, depth {depth:>3}, {time:.1?}",
        scenario.name
    )
}

/// How many schedules of each scenario are tried. Without optimisation only some: the test suite is to end
/// before its user does something else.
fn limit() -> u64 {
    let told = std::env::var("PROCREF_MODEL_LIMIT").ok();
    let told = told.and_then(|limit| limit.parse().ok());
    told.unwrap_or(if cfg!(debug_assertions) {
        2_000
    } else {
        u64::MAX
    })
}

fn holds(scenarios: &[Scenario]) {
    let mut failed = 0;
    for scenario in scenarios {
        match search(scenario, limit()) {
            Ok(Some(explored)) => tell(told(scenario, &explored)),
            Ok(None) => tell(format_args!(
                "{:40} more than {} schedules",
                scenario.name,
                limit()
            )),
            Err(found) => {
                show(scenario, &found);
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 0, "scenarios failed");
}

fn show(scenario: &Scenario, found: &Found) {
    for line in &found.trace {
        tell(line);
    }
    let Found {
        violation,
        schedules,
        ..
    } = found;
    tell(format_args!(
        "{}: {violation} (schedule {schedules})",
        scenario.name
    ));
}

#[test]
fn by_callback() {
    holds(&suite::by_callback());
}

#[test]
fn others() {
    holds(&suite::others());
}

#[test]
fn by_command() {
    holds(&suite::by_command());
}

#[test]
fn three() {
    holds(&suite::three());
}
