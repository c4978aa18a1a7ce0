//! How Windows requests a service to stop, and how a service that ignores the request is killed.

use std::env;
use std::process::{Command, Stdio, exit};
use std::thread;
use std::time::{Duration, Instant};

use procref::process::{Process, StopEvent, is_alive};
use procref_testkit::process::{Key, Window, console_keys};

use crate::sandbox::{
    Finished, LONG, Sandbox, SpawnPiped as _, finish, next_line, record_event, role_args,
    role_command, variable,
};

/// The kinds of stop request that the service listens for, and how the service reacts.
const REQUESTS: &str = "TEST_STOP_REQUESTS";

/// The readiness of the service, which prints this line when it listens for stop requests.
const LISTENS: &str = "log:^listens$";

const SERVICE_ROLE: &str = "stop_request::service_role_runs_when_spawned_by_a_test";

/// A role, not a test: a service that listens for the stop requests in its environment.
#[test]
fn service_role_runs_when_spawned_by_a_test() {
    let Some(requests) = variable(REQUESTS) else {
        return;
    };
    let requests = requests.to_str().unwrap();
    let has = |request| requests.split(' ').any(|it| it == request);
    record_event("started");
    if has("child") {
        // The child receives the stop request instead of this process.
        let child = Command::new(env::current_exe().unwrap())
            .args(role_args(SERVICE_ROLE))
            .env(REQUESTS, requests.replace("child", ""))
            .stdin(Stdio::null())
            .spawn();
        child.unwrap().wait().unwrap();
        clean_up("child-exited", requests);
    }
    if has("event") {
        let stop = StopEvent::create().unwrap();
        let requests = requests.to_owned();
        thread::spawn(move || {
            stop.wait(Duration::MAX).unwrap();
            clean_up("event", &requests);
        });
    }
    if has("keys") {
        let keys = console_keys().unwrap();
        let requests = requests.to_owned();
        thread::spawn(move || {
            for key in keys {
                clean_up(&format!("{key:?}"), &requests);
            }
        });
    }
    if has("window") || has("console") {
        // To other processes, the window of a console belongs to a process on that console.
        let class = if has("console") {
            "ConsoleWindowClass"
        } else {
            "procref-test"
        };
        let window = Window::create(class).unwrap();
        println!("\nlistens");
        loop {
            window.wait_closed().unwrap();
            clean_up("window", requests);
        }
    }
    println!("\nlistens");
    thread::sleep(Duration::MAX);
}

/// Records the request and exits, after a moment that lies within the grace. A deaf service does not exit.
fn clean_up(request: &str, requests: &str) {
    record_event(request);
    if requests.contains("deaf") {
        return;
    }
    thread::sleep(Duration::from_millis(300));
    record_event("cleaned-up");
    exit(0);
}

/// Executes `run` on a terminal with a client that exits at once, so that procref stops the service.
fn run(sandbox: &Sandbox, requests: &str, flags: &[&str]) -> Finished {
    let start = role_command(SERVICE_ROLE);
    let service = ["run", "db", "--start", &start, "--ready", LISTENS];
    let client = ["--", "cmd", "/c", "exit 0"];
    let mut command = sandbox.on_terminal(Key::C, &[&service, flags, &client].concat());
    let done = finish(command.env(REQUESTS, requests).spawn_piped());
    assert_eq!(done.code, Some(0), "{done:?}");
    for (_, pid) in sandbox.events_with_pids() {
        assert!(!is_alive(pid), "process {pid} is alive");
    }
    done
}

#[test]
fn window_is_closed_and_the_service_has_its_grace() {
    let sandbox = Sandbox::new();
    let done = run(&sandbox, "window", &[]);
    let events = ["started", "window", "cleaned-up"];
    assert_eq!(sandbox.events(), events, "{done:?}");
    assert_eq!(done.err, "");
}

#[test]
fn window_of_a_child_of_the_service_is_closed() {
    let sandbox = Sandbox::new();
    let done = run(&sandbox, "child window", &[]);
    let child = ["started", "window", "cleaned-up"];
    let events = [&["started"][..], &child, &["child-exited", "cleaned-up"]].concat();
    assert_eq!(sandbox.events(), events, "{done:?}");
    assert_eq!(done.err, "");
}

#[test]
fn service_ignoring_window_close_is_killed_after_grace() {
    let sandbox = Sandbox::new();
    let start = Instant::now();
    let done = run(&sandbox, "window deaf", &["--grace", "3s"]);
    assert!(start.elapsed() >= Duration::from_secs(3));
    assert_eq!(sandbox.events(), ["started", "window"], "{done:?}");
    assert!(done.err.contains("still alive after its grace"), "{done:?}");
}

#[test]
fn console_window_is_not_closed() {
    let sandbox = Sandbox::new();
    let done = run(&sandbox, "console", &[]);
    assert_eq!(sandbox.events(), ["started"], "{done:?}");
    assert!(
        done.err.contains("the service accepts no stop signal"),
        "{done:?}"
    );
}

#[test]
fn stop_event_is_used_instead_of_windows_and_keys() {
    let sandbox = Sandbox::new();
    let done = run(&sandbox, "event window keys", &["--stop-signal", "SIGINT"]);
    let events = ["started", "event", "cleaned-up"];
    assert_eq!(sandbox.events(), events, "{done:?}");
    assert_eq!(done.err, "");
}

#[test]
fn service_on_another_console_is_killed_with_a_warning() {
    let sandbox = Sandbox::new();
    let flags = ["--stop-signal", "SIGINT"];
    let start = role_command(SERVICE_ROLE);
    let hold = [
        "hold", "db", "--start", &start, "--ready", LISTENS, flags[0], flags[1],
    ];
    // Each client has its own console.
    let mut holders = [0, 1].map(|_| {
        let mut command = sandbox.on_terminal(Key::C, &hold);
        let mut holder = command.env(REQUESTS, "keys").spawn_piped();
        while !next_line(&mut holder).starts_with("db: ") {}
        holder
    });
    let process = Process::open(holders[0].id()).unwrap();
    holders[0].press();
    let [starter, mut other] = holders;
    // The test waits for the process only, not for the end of its output. The console stays with the service,
    // and on Wine the console keeps the output open.
    assert!(
        process.wait(LONG).unwrap(),
        "the starter does not exit on Ctrl-C"
    );
    assert_eq!(
        sandbox.events(),
        ["started"],
        "Ctrl-C is not for the service"
    );
    other.press();
    let done = finish(other);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(sandbox.events(), ["started"]);
    assert!(
        done.err.contains("the service accepts no stop signal"),
        "{done:?}"
    );
    assert!(!is_alive(sandbox.events_with_pids()[0].1));
    let done = finish(starter);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
#[ignore = "Wine 8 delivers no Ctrl-Break; on Windows: --include-ignored"]
fn ctrl_break_stops_the_service_and_no_other_process() {
    // `procref` and the terminal role are on the same console. The terminal role fails if it receives the key.
    let flags = ["--stop-signal", "SIGINT", "--grace", "3s"];

    let sandbox = Sandbox::new();
    let done = run(&sandbox, "keys", &flags);
    let events = ["started", "Break", "cleaned-up"];
    assert_eq!(sandbox.events(), events, "{done:?}");
    assert_eq!(done.err, "");

    let sandbox = Sandbox::new();
    let done = run(&sandbox, "keys deaf", &flags);
    assert_eq!(sandbox.events(), ["started", "Break"], "{done:?}");
    assert!(done.err.contains("still alive after its grace"), "{done:?}");

    // Windows ends a program that does not handle Ctrl-Break.
    let sandbox = Sandbox::new();
    let done = run(&sandbox, "nothing", &flags);
    assert_eq!(sandbox.events(), ["started"]);
    assert_eq!(done.err, "");
}
