//! A client dies by `TerminateProcess` at each step that it comes by. The next one finds everything as it
//! should be.

use procref::{CRASH_POINTS, CrashSite};

use crate::client::{BY, Client};
use crate::stage::Stage;

const POINT: &str = "PROCREF_CRASH_POINT";

/// Has a client go a whole way alone; then another has to start, and find nobody beside it. How many steps
/// somebody died at.
#[expect(clippy::print_stderr, reason = "what is not tried is told")]
fn die_everywhere(by: &str) -> Vec<&'static str> {
    // Of what a supervisor does elsewhere, a client does this here.
    let own = ["ServiceForked", "ServicePublished"];
    let points = CRASH_POINTS
        .iter()
        .filter(|point| point.site == CrashSite::Client || own.contains(&point.name));
    let mut died = Vec::new();
    for point in points {
        if (by, point.name) == ("callbacks", "CalledBack") {
            let name = point.name;
            eprintln!(
                "skipped {name}: what a callback has spawned nobody knows before it is published"
            );
            continue;
        }
        let stage = Stage::new();
        let mut dying = stage.client_with(&[(BY, by), (POINT, point.name)]);
        let mut other = stage.client_with(&[(BY, by)]);
        dying.begin("acquire");
        let mut alive = dying.end().is_some();
        if alive {
            dying.begin("release");
            alive = dying.end().is_some();
        }
        if alive {
            continue;
        }
        died.push(point.name);
        dying.wait_dead();
        go(&mut other, point.name, &stage);
    }
    died
}

fn go(other: &mut Client, point: &str, stage: &Stage) {
    let answer = other.ask("acquire");
    let pid: u32 = answer
        .parse()
        .unwrap_or_else(|_| panic!("after a death at {point}: {answer}"));
    assert!(procref::process::is_alive(pid), "after a death at {point}");
    assert_eq!(other.ask("count"), "1", "after a death at {point}");
    assert_eq!(other.ask("release"), "done", "after a death at {point}");
    stage.check_nothing_left();
    stage.check_no_files();
}

fn check(died: &[&str], expected: &[&str]) {
    for point in expected {
        assert!(died.contains(point), "nobody died at {point}: {died:?}");
    }
}

#[test]
fn a_death_at_any_step_of_a_command_leaves_nothing_that_the_next_client_minds() {
    let died = die_everywhere("command");
    check(
        &died,
        &[
            "Entered",
            "Claimed",
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
fn a_death_at_any_step_with_callbacks_leaves_nothing_that_the_next_client_minds() {
    let died = die_everywhere("callbacks");
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

/// False: one of the others was faster, and started it in place of who was to die.
fn takes_over(point: &str) -> bool {
    let stage = Stage::new();
    let mut dying = stage.client_with(&[(POINT, point)]);
    let mut waiting = stage.clients(3);
    dying.begin("acquire");
    for client in &mut waiting {
        client.begin("acquire");
    }
    let died = dying.end().is_none();
    let answers: Vec<_> = waiting.iter_mut().map(|it| it.end().unwrap()).collect();
    assert!(
        answers.iter().all(|it| *it == answers[0]),
        "{point}: {answers:?}"
    );
    let living = (!died).then_some(&mut dying);
    for client in waiting.iter_mut().chain(living) {
        assert_eq!(client.ask("release"), "done");
    }
    stage.check_nothing_left();
    stage.check_no_files();
    died
}

#[test]
fn who_waits_for_a_start_takes_over_when_the_starter_dies() {
    const TRIALS: usize = 20;

    for point in ["Launched", "Executed", "Answering"] {
        let done = (0..TRIALS).any(|_| takes_over(point));
        assert!(done, "{point}: {TRIALS} times somebody else was faster");
    }
}
