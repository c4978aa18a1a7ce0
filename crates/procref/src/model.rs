//! The real engine on a made-up machine, through every order of steps.

mod choices;
mod client;
mod explorer;
mod hash;
mod invariants;
mod machine;
mod mutations;
mod platform;
mod process;
mod process_table;
mod runner;
mod scenario;
mod scenarios;
mod starting_service;
mod supervisor;
mod yield_points;

use explorer::{Counterexample, Explored, search, walk};
use mutations::MutatedPlatform;
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
        whole,
    } = explored;
    let bound = match scenario.bound {
        None => "any".to_owned(),
        Some(bound) => bound.to_string(),
    };
    let whole = if *whole { "whole" } else { "NOT WHOLE" };
    format!(
        "{:45} {schedules:>9} schedules {states:>9} states {steps:>11} steps, depth {depth:>3}, \
         preemptions {bound:>3}, {whole}, {time:.1?}",
        scenario.name
    )
}

fn setting<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let set = std::env::var(variable).ok()?;
    match set.parse() {
        Ok(setting) => Some(setting),
        Err(_) => panic!("{variable} is set to {set:?}"),
    }
}

/// How many schedules of each scenario are tried at most. Without optimisation few: the test suite is to end
/// before its user does something else.
fn limit() -> u64 {
    let few = if cfg!(debug_assertions) {
        200
    } else {
        u64::MAX
    };
    setting("PROCREF_MODEL_LIMIT").unwrap_or(few)
}

/// Explores scenarios, each of them whole. Not where somebody has set a limit, or nobody has optimised.
fn holds(scenarios: &[Scenario]) {
    let must_be_whole = limit() == u64::MAX;
    let mut failed = 0;
    for scenario in scenarios {
        let mut scenario = scenario.clone();
        if let Some(bound) = setting("PROCREF_MODEL_BOUND") {
            scenario.bound = Some(bound).filter(|_| scenario.bound.is_some());
        }
        // No scenario in which everything ends has as many.
        match search(&scenario, limit().min(50_000_000)) {
            Ok(explored) => {
                tell(told(&scenario, &explored));
                failed += u32::from(must_be_whole && !explored.whole);
            }
            Err(found) => {
                show(&scenario, &found);
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 0, "scenarios failed, or are not whole");
}

fn show(scenario: &Scenario, found: &Counterexample) {
    for line in &found.trace {
        tell(line);
    }
    let Counterexample {
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
    holds(&scenarios::by_callback());
}

#[test]
fn others() {
    holds(&scenarios::others());
}

#[test]
fn by_command() {
    holds(&scenarios::by_command());
}

/// The kernel counts processes, and a handle more of one is counted in memory.
#[test]
fn a_process_that_holds_it_acquires_it_again_without_the_kernel() {
    use scenario::Act::{Acquire, Release, TryJoin};
    let acts = [Acquire, Acquire, TryJoin, Release, Release, Release];
    let scenario = Scenario::new("again", scenario::By::Callback, &[&acts]);
    let told = explorer::undisturbed(&scenario);
    let publishes = |(_, line): &(usize, &String)| line.contains("publish the instance");
    // First as one that nobody may use yet.
    let published = told.iter().enumerate().filter(publishes).nth(1);
    let (published, _) = published.expect("it is published");
    let acquired = told[published..].iter().skip(1);
    let steps = acquired.filter(|line| line.starts_with("client"));
    let steps: Vec<&String> = steps
        .take_while(|line| !line.contains(scenario::LET_GO))
        .collect();
    let asked = [
        "client 0: ask whether it is alive",
        "client 0: on_health_check",
    ];
    assert_eq!(steps, [asked, asked].concat());
}

/// Not by way of a set that is gone: the kernel may have given its number to another one since.
#[test]
fn who_removes_the_set_opens_the_next_one() {
    use scenario::Act::{Acquire, Release};
    let acts = [Acquire, Release, Acquire, Release];
    let scenario = Scenario::new("anew", scenario::By::Callback, &[&acts]);
    let told = explorer::undisturbed(&scenario);
    let steps = told.iter().filter(|line| line.starts_with("client"));
    let mut after = steps.skip_while(|line| !line.ends_with("remove the set"));
    assert_eq!(
        after.nth(1).map(String::as_str),
        Some("client 0: open the set")
    );
}

/// The one schedule that matters among millions of the scenario.
#[test]
fn g1_health_of_an_instance_condemns_none_of_a_later_set() {
    let mut run = explorer::Directed::new(&scenarios::ill_and_removed());
    run.go_on_without("client 1", "client 0: let go");
    run.take("falls ill");
    run.go_on_without("client 0", "client 1: take the lock");
    run.take("removes the set");
    run.take("client 0: let go");
    run.go_on_without("client 1", "client 0: let go");
    // Both have generation 1.
    run.go_on_without("client 0", "client 1: let go");
    assert_eq!(run.violation(), None);
}

#[test]
fn three_by_callback() {
    holds(&[scenarios::three_by_callback()]);
}

#[test]
fn three_with_orphans_kept() {
    holds(&[scenarios::three_with_orphans_kept()]);
}

#[test]
fn three_by_command() {
    holds(&[scenarios::three_by_command()]);
}

#[test]
fn three_and_a_supervisor() {
    holds(&scenarios::three_and_a_supervisor());
}

/// At random first: whatever needs something from outside early on is found sooner so.
fn find(scenario: &Scenario) -> Result<Explored, Counterexample> {
    walk(scenario, 1, 10_000)?;
    search(scenario, 200_000)
}

/// More than can be explored: three clients that do more, and more that happens to them. The seed that a
/// failing run prints goes through the same schedules again.
#[test]
fn at_random() {
    let seed = setting("PROCREF_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let schedules = limit().min(20_000);
    let mut failed = 0;
    for scenario in scenarios::at_random() {
        match walk(&scenario, seed, schedules) {
            Ok(explored) => tell(told(&scenario, &explored)),
            Err(found) => {
                show(&scenario, &found);
                tell(format_args!("PROCREF_MODEL_SEED={seed}"));
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 0, "scenarios failed: PROCREF_MODEL_SEED={seed}");
}

/// A model that finds nothing wrong with what is wrong shows nothing.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimisation")]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for MutatedPlatform {
        scenario, found_by, ..
    } in mutations::plants()
    {
        let bug = format!("{:?}", scenario.bug.expect("it is planted"));
        match find(&scenario) {
            Err(found) if found_by.iter().any(|kind| found.violation.contains(kind)) => {
                let Counterexample {
                    violation,
                    schedules,
                    ..
                } = found;
                tell(format_args!(
                    "{bug:30} after {schedules:>6} schedules: {violation}"
                ));
            }
            Err(found) => {
                show(&scenario, &found);
                missed.push(bug);
            }
            Ok(explored) => {
                tell(format_args!("{bug:30} NOT FOUND"));
                tell(told(&scenario, &explored));
                missed.push(bug);
            }
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}
