//! Runs the real engine on a simulated machine, in every order of steps.

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

#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn print(line: impl fmt::Display) {
    println!("{line}");
}

fn figures(scenario: &Scenario, explored: &Explored) -> String {
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

/// The largest number of schedules per scenario. It is small without optimization, so that the test suite
/// stays fast.
fn limit() -> u64 {
    let few = if cfg!(debug_assertions) {
        200
    } else {
        u64::MAX
    };
    setting("PROCREF_MODEL_LIMIT").unwrap_or(few)
}

/// Explores each scenario completely, unless a limit is set or the build is not optimized.
fn holds(scenarios: &[Scenario]) {
    let must_be_whole = limit() == u64::MAX;
    let mut failed = 0;
    for scenario in scenarios {
        let mut scenario = scenario.clone();
        if let Some(bound) = setting("PROCREF_MODEL_BOUND") {
            scenario.bound = Some(bound).filter(|_| scenario.bound.is_some());
        }
        // Every scenario that terminates has fewer schedules.
        match search(&scenario, limit().min(50_000_000)) {
            Ok(explored) => {
                print(figures(&scenario, &explored));
                failed += u32::from(must_be_whole && !explored.whole);
            }
            Err(found) => {
                show(&scenario, &found);
                failed += 1;
            }
        }
    }
    assert_eq!(
        failed, 0,
        "scenarios failed, or were not explored completely"
    );
}

fn show(scenario: &Scenario, found: &Counterexample) {
    for line in &found.trace {
        print(line);
    }
    let Counterexample {
        violation,
        schedules,
        ..
    } = found;
    print(format_args!(
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

/// The kernel counts processes. A second handle of a process is counted in memory.
#[test]
fn second_acquire_of_a_client_needs_no_kernel_step() {
    use scenario::Act::{Acquire, Release, TryJoin};
    let acts = [Acquire, Acquire, TryJoin, Release, Release, Release];
    let scenario = Scenario::new("again", scenario::By::Callback, &[&acts]);
    let figures = explorer::undisturbed(&scenario);
    let publishes = |(_, line): &(usize, &String)| line.contains("publish the instance");
    // The first publication is that of an instance that is not ready.
    let published = figures.iter().enumerate().filter(publishes).nth(1);
    let (published, _) = published.expect("a publication");
    let acquired = figures[published..].iter().skip(1);
    let steps = acquired.filter(|line| line.starts_with("client"));
    let steps: Vec<&String> = steps
        .take_while(|line| !line.contains(scenario::RELEASE_HANDLE))
        .collect();
    let asked = [
        "client 0: check whether it is alive",
        "client 0: on_health_check",
    ];
    assert_eq!(steps, [asked, asked].concat());
}

/// The next set is opened by its key and not by its number, which the kernel may have given to another set.
#[test]
fn client_that_removes_the_set_opens_the_next_by_its_key() {
    use scenario::Act::{Acquire, Release};
    let acts = [Acquire, Release, Acquire, Release];
    let scenario = Scenario::new("anew", scenario::By::Callback, &[&acts]);
    let figures = explorer::undisturbed(&scenario);
    let steps = figures.iter().filter(|line| line.starts_with("client"));
    let mut after = steps.skip_while(|line| !line.ends_with("remove the set"));
    assert_eq!(
        after.nth(1).map(String::as_str),
        Some("client 0: open the set")
    );
}

/// One schedule of millions shows the fault.
#[test]
fn g1_health_of_an_instance_condemns_none_of_a_later_set() {
    let mut run = explorer::Directed::new(&scenarios::ill_and_removed());
    run.run_without("client 1", "client 0: release the handle");
    run.take("becomes unhealthy");
    run.run_without("client 0", "client 1: take the lock");
    run.take("the set is removed from outside");
    run.take("client 0: release the handle");
    run.run_without("client 1", "client 0: release the handle");
    // Both instances have generation 1.
    run.run_without("client 0", "client 1: release the handle");
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

/// Random walks come first, because they are faster at finding mutations that need an early external event.
fn find(scenario: &Scenario) -> Result<Explored, Counterexample> {
    walk(scenario, 1, 10_000)?;
    search(scenario, 200_000)
}

/// Scenarios that are too large to explore: three clients with more acts, and more external events. A failing
/// run prints its seed, which repeats the same schedules.
#[test]
fn at_random() {
    let seed = setting("PROCREF_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let schedules = limit().min(20_000);
    let mut failed = 0;
    for scenario in scenarios::at_random() {
        match walk(&scenario, seed, schedules) {
            Ok(explored) => print(figures(&scenario, &explored)),
            Err(found) => {
                show(&scenario, &found);
                print(format_args!("PROCREF_MODEL_SEED={seed}"));
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 0, "scenarios failed: PROCREF_MODEL_SEED={seed}");
}

/// The model must find the fault in every faulty machine. Otherwise its result would prove nothing.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes without optimization")]
fn every_mutation_is_found() {
    let mut missed = Vec::new();
    for MutatedPlatform {
        scenario, found_by, ..
    } in mutations::mutated_platforms()
    {
        let mutation = format!("{:?}", scenario.mutation.expect("a mutation"));
        match find(&scenario) {
            Err(found) if found_by.iter().any(|kind| found.violation.contains(kind)) => {
                let Counterexample {
                    violation,
                    schedules,
                    ..
                } = found;
                print(format_args!(
                    "{mutation:30} after {schedules:>6} schedules: {violation}"
                ));
            }
            Err(found) => {
                show(&scenario, &found);
                missed.push(mutation);
            }
            Ok(explored) => {
                print(format_args!("{mutation:30} NOT FOUND"));
                print(figures(&scenario, &explored));
                missed.push(mutation);
            }
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}
