//! `procref demo`: what it shows is so, or it fails.

mod project;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use procref_testkit::observe::Identity;
use project::{Corner, texts};
use rustix::process::Signal;

/// In a directory for temporary files of its own, of which nothing may be left.
fn demo(corner: &Corner) -> Command {
    let mut command = corner.procref(Path::new("/"));
    command.arg("demo").env("TMPDIR", temporary(corner));
    command
}

fn temporary(corner: &Corner) -> std::path::PathBuf {
    let dir = corner.path("tmp");
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

#[track_caller]
fn assert_nothing_left(corner: &Corner) {
    let left: Vec<_> = std::fs::read_dir(temporary(corner))
        .expect("read")
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn in_a_pipe_it_is_plain_lines_and_all_checks_pass() {
    let corner = Corner::new();
    let output = demo(&corner).output().expect("run");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(!out.contains('\x1b'), "{out}");
    assert!(out.contains("All 8 checks passed"), "{out}");
    assert_nothing_left(&corner);
}

#[test]
fn on_a_terminal_a_table_changes() {
    let corner = Corner::new();
    let template = demo(&corner);
    let mut command = Command::new("script");
    // In a pseudo-terminal of that size, and with the exit code of what runs in it.
    let program = template.get_program().to_string_lossy();
    let inside = format!("stty rows 40 cols 100; exec '{program}' demo");
    command
        .args(["-qec", &inside, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().expect("run script(1)");
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("All 8 checks passed"), "{out}");
    // Cursor movements, and rows in which something changes.
    assert!(out.contains("\x1b["), "{out}");
    for state in ["waits for the service", "works", "killed", "has left"] {
        assert!(out.contains(state), "{state}: {out}");
    }
    assert_nothing_left(&corner);
}

/// The process of the client with this number, once it has the service.
fn client(number: usize, lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Identity {
    let start = format!("client {number} (pid ");
    let line = lines
        .map(|line| line.expect("a line"))
        .find(|line| line.contains(&start) && line.contains("has the service"));
    let line = line.unwrap_or_else(|| panic!("client {number} was never there"));
    let pid = line
        .split(&start)
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    project::process(pid.expect("a pid"))
}

#[test]
fn a_client_that_ends_otherwise_than_shown_is_a_failure() {
    let corner = Corner::new();
    let mut demo = demo(&corner);
    let mut child = demo
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    client(6, &mut lines).signal(Signal::KILL);
    assert!(!lines.any(|line| line.expect("a line").contains("checks passed")));
    let output = child.wait_with_output().expect("wait");
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("client 6 ended with signal: 9"), "{err}");
    assert_nothing_left(&corner);
}

#[test]
fn interrupted_it_leaves_nothing() {
    let corner = Corner::new();
    let mut demo = demo(&corner);
    let mut child = demo
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let running = client(1, &mut lines);
    project::process(&child.id().to_string()).signal(Signal::INT);
    for line in lines {
        line.expect("a line");
    }
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains("interrupted"));
    running.wait_gone();
    assert_nothing_left(&corner);
}
