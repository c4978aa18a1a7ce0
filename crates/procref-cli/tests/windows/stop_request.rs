//! By what a service is asked to end, and what becomes of one that does not care.

use std::env;
use std::process::{Command, Stdio, exit};
use std::thread;
use std::time::{Duration, Instant};

use procref::process::{Process, StopEvent, is_alive};
use procref_testkit::process::{Key, Window, console_keys};

use crate::sandbox::{Done, LONG, Piped as _, Stage, finish, line, variable, write_down};

/// By what the service can be asked, and how it takes that.
const WAYS: &str = "TEST_WAYS";

/// What it prints when it can be asked.
const LISTENS: &str = "log:^listens$";

/// Not a test by itself: a service that can be asked by what its environment says.
#[test]
fn service_role_runs_when_spawned_by_a_test() {
    let Some(ways) = variable(WAYS) else {
        return;
    };
    let ways = ways.to_str().unwrap();
    let has = |way| ways.split(' ').any(|it| it == way);
    write_down("started");
    if has("child") {
        // Its child can be asked in its place.
        let child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "stop_request::service_role_runs_when_spawned_by_a_test",
                "--nocapture",
            ])
            .env(WAYS, ways.replace("child", ""))
            .stdin(Stdio::null())
            .spawn();
        child.unwrap().wait().unwrap();
        tidy_up("alone", ways);
    }
    if has("event") {
        let asked = StopEvent::create().unwrap();
        let ways = ways.to_owned();
        thread::spawn(move || {
            asked.wait(Duration::MAX).unwrap();
            tidy_up("event", &ways);
        });
    }
    if has("keys") {
        let keys = console_keys().unwrap();
        let ways = ways.to_owned();
        thread::spawn(move || {
            for key in keys {
                tidy_up(&format!("{key:?}"), &ways);
            }
        });
    }
    if has("window") || has("console") {
        // A console's looks as if it were its service's.
        let class = if has("console") {
            "ConsoleWindowClass"
        } else {
            "procref-test"
        };
        let window = Window::create(class).unwrap();
        println!("\nlistens");
        loop {
            window.wait_closed().unwrap();
            tidy_up("window", ways);
        }
    }
    println!("\nlistens");
    thread::sleep(Duration::MAX);
}

/// It takes a moment, which it is given.
fn tidy_up(why: &str, ways: &str) {
    write_down(why);
    if ways.contains("deaf") {
        return;
    }
    thread::sleep(Duration::from_millis(300));
    write_down("tidied");
    exit(0);
}

fn start() -> String {
    let own = env::current_exe().unwrap();
    format!(
        "\"{}\" --exact stop_request::service_role_runs_when_spawned_by_a_test --nocapture",
        own.display()
    )
}

/// `run` on a terminal, with a client that ends at once, so that the service is stopped.
fn run(stage: &Stage, ways: &str, flags: &[&str]) -> Done {
    let start = start();
    let own = ["run", "db", "--start", &start, "--ready", LISTENS];
    let client = ["--", "cmd", "/c", "exit 0"];
    let mut command = stage.on_terminal(Key::C, &[&own, flags, &client].concat());
    let done = finish(command.env(WAYS, ways).piped());
    assert_eq!(done.code, Some(0), "{done:?}");
    for (_, pid) in stage.lives() {
        assert!(!is_alive(pid), "{pid} lives");
    }
    done
}

#[test]
fn window_is_closed_and_the_service_has_its_grace() {
    let stage = Stage::new();
    let done = run(&stage, "window", &[]);
    assert_eq!(stage.life(), ["started", "window", "tidied"], "{done:?}");
    assert_eq!(done.err, "");
}

#[test]
fn window_of_a_child_of_the_service_is_closed() {
    let stage = Stage::new();
    let done = run(&stage, "child window", &[]);
    let life = ["started", "started", "window", "tidied", "alone", "tidied"];
    assert_eq!(stage.life(), life, "{done:?}");
    assert_eq!(done.err, "");
}

#[test]
fn service_ignoring_window_close_is_killed_after_grace() {
    let stage = Stage::new();
    let begun = Instant::now();
    let done = run(&stage, "window deaf", &["--grace", "3s"]);
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!(stage.life(), ["started", "window"], "{done:?}");
    assert!(done.err.contains("still alive after its grace"), "{done:?}");
}

#[test]
fn console_window_is_not_closed() {
    let stage = Stage::new();
    let done = run(&stage, "console", &[]);
    assert_eq!(stage.life(), ["started"], "{done:?}");
    assert!(
        done.err.contains("there is no way to ask it to end"),
        "{done:?}"
    );
}

#[test]
fn stop_event_is_used_instead_of_windows_and_keys() {
    let stage = Stage::new();
    let done = run(&stage, "event window keys", &["--stop-signal", "SIGINT"]);
    assert_eq!(stage.life(), ["started", "event", "tidied"], "{done:?}");
    assert_eq!(done.err, "");
}

#[test]
fn service_on_another_console_is_killed_with_a_warning() {
    let stage = Stage::new();
    let flags = ["--stop-signal", "SIGINT"];
    let start = start();
    let hold = [
        "hold", "db", "--start", &start, "--ready", LISTENS, flags[0], flags[1],
    ];
    // A console each.
    let mut holders = [0, 1].map(|_| {
        let mut command = stage.on_terminal(Key::C, &hold);
        let mut holder = command.env(WAYS, "keys").piped();
        while !line(&mut holder).starts_with("db: ") {}
        holder
    });
    holders[0].press();
    let [starter, mut other] = holders;
    // Its end only, and not that of what it says: Wine's console, which stays with the service, has that open.
    let gone = Process::open(starter.id()).unwrap().wait(LONG).unwrap();
    assert!(gone, "it does not let go");
    assert_eq!(stage.life(), ["started"], "Ctrl-C is not for the service");
    other.press();
    let done = finish(other);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(stage.life(), ["started"]);
    assert!(
        done.err.contains("there is no way to ask it to end"),
        "{done:?}"
    );
    assert!(!is_alive(stage.lives()[0].1));
    let done = finish(starter);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
#[ignore = "Wine 8 delivers no Ctrl-Break; on Windows: --include-ignored"]
fn ctrl_break_stops_the_service_and_no_other_process() {
    // `procref` is on it, too, and the terminal, which takes what it hears for a mistake.
    let flags = ["--stop-signal", "SIGINT", "--grace", "3s"];

    let stage = Stage::new();
    let done = run(&stage, "keys", &flags);
    assert_eq!(stage.life(), ["started", "Break", "tidied"], "{done:?}");
    assert_eq!(done.err, "");

    let stage = Stage::new();
    let done = run(&stage, "keys deaf", &flags);
    assert_eq!(stage.life(), ["started", "Break"], "{done:?}");
    assert!(done.err.contains("still alive after its grace"), "{done:?}");

    // Windows ends a program that does not listen.
    let stage = Stage::new();
    let done = run(&stage, "nothing", &flags);
    assert_eq!(stage.life(), ["started"]);
    assert_eq!(done.err, "");
}
