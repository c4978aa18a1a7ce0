//! Errors that state the cause and what to do, and leftovers that prevent a start.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};

use support::{output_text, sandbox::Sandbox, workspace::Workspace};

const DB: &str = "[services.db]\nstart = 'sleep 600'\nready = 'started'\n";

#[test]
fn command_about_a_stopped_service_names_the_command_that_starts_it() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    for command in ["env", "restart", "logs"] {
        let (code, stderr) = project.failure(&[command, "db"]);
        assert_eq!(code, 3, "{command}");
        let advice = "is not running";
        assert!(stderr.contains(advice), "{command}: {stderr}");
        let advice = "(`procref run db -- COMMAND` starts it for a command, and `procref pin db` keeps it running)";
        assert!(stderr.contains(advice), "{command}: {stderr}");
    }
}

#[test]
fn program_that_fails_without_output_gets_advice() {
    let sandbox = Sandbox::new();
    let start = "sh -c 'exit 7'";
    let done = sandbox.run(
        "db",
        &[
            "run", "db", "--start", start, "--ready", "tcp", "--port", "1", "--", "true",
        ],
    );
    assert_eq!(done.code, Some(125), "{done:?}");
    let advice = "exited with status 7";
    assert!(done.err.contains(advice), "{done:?}");
    let advice = "(it gave no reason: run its command by hand, or let it print more); no output in";
    assert!(done.err.contains(advice), "{done:?}");
}

#[test]
fn readiness_command_that_fails_is_quoted_in_the_error() {
    let sandbox = Sandbox::new();
    let ready = "cmd:sh -c 'echo no database here >&2; exit 2'";
    let options = [
        "--start",
        "sleep 600",
        "--ready",
        ready,
        "--start-timeout",
        "500ms",
    ];
    let done = sandbox.run(
        "db",
        &[&["run", "db"], &options[..], &["--", "true"]].concat(),
    );
    assert_eq!(done.code, Some(125), "{done:?}");
    let reason = "it exited with status 2, and printed: no database here";
    assert!(done.err.contains(reason), "{done:?}");
}

#[test]
fn runtime_directory_that_cannot_be_created_gets_advice() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let mut run = project.procref(&["run", "db", "--", "true"]);
    let output = run.env("XDG_RUNTIME_DIR", "/proc").output();
    let output = output.expect("run procref");
    assert_eq!(output.status.code(), Some(125));
    let stderr = output_text(&output).1;
    let advice = "(set PROCREF_RUNTIME_DIR to a directory that this user can create)";
    assert!(
        stderr.contains("/proc/procref: could not create it") && stderr.contains(advice),
        "{stderr}"
    );
}

#[test]
fn negative_pid_is_an_invalid_value_and_not_an_option() {
    let sandbox = Sandbox::new();
    let done = sandbox.run("db", &["hold", "db", "--for-pid", "-1"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.err
            .contains("invalid value '-1' for '--for-pid <PID>'"),
        "{done:?}"
    );
}

#[test]
fn list_of_names_escapes_line_breaks() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.\"two\\nlines\"]\nstart = 'x'\n[services.b]\nstart = 'x'\n",
    );
    let (_, stderr) = project.failure(&["status", "qqq"]);
    assert!(
        stderr.contains("available: `b` and `two\\nlines`"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn init_below_a_project_names_the_file_that_does_not_apply_any_more() {
    let workspace = Workspace::new();
    let outer = workspace.project("app", DB);
    let inner = workspace.empty_project("app/inner");
    let stderr = |args: &[&str]| {
        let output = inner.procref(args).output().expect("run procref");
        assert!(output.status.success());
        output_text(&output).1
    };
    let text = stderr(&["init", "redis"]);
    let file = outer.dir.join("procref.toml");
    let expected = format!(
        "the services of {} are not available in this directory any more",
        file.display()
    );
    assert!(text.contains(&expected), "{text}");
    let added = stderr(&["init", "nats"]);
    assert!(!added.contains("any more"), "{added}");
    let other = workspace.empty_project("other");
    let output = other.procref(&["init"]).output().expect("run procref");
    assert!(!output_text(&output).1.contains("any more"));
}

/// A program such as nginx fails if its socket is left from a run that was killed.
#[test]
fn socket_of_a_killed_service_is_removed_before_the_next_start() {
    let sandbox = Sandbox::new();
    let dir = sandbox.runtime_dir();
    let (stale, live) = (dir.join("stale.sock"), dir.join("live.sock"));
    drop(UnixListener::bind(&stale).expect("bind a socket"));
    let listener = UnixDatagram::bind(&live).expect("bind a socket");
    let start = "sh -c 'test ! -e $0/stale.sock && test -e $0/live.sock && exec sleep 600' {dir}";
    let options = ["--start", start, "--ready", "started"];
    let done = sandbox.run(
        "db",
        &[&["run", "db"], &options[..], &["--", "true"]].concat(),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    sandbox.wait_stopped("db");
    drop(listener);
    fs::remove_file(&live).expect("remove the socket");
}
