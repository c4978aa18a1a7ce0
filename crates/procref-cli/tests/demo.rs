//! `procref demo`, which checks what it shows and fails if a check fails.

#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{copy_environment, live_process, output_text, workspace::Workspace};

/// Returns the command of a demo with its own directory for temporary files.
fn demo(workspace: &Workspace) -> Command {
    let mut command = workspace.procref(Path::new("/"));
    command.arg("demo").env("TMPDIR", temporary(workspace));
    command
}

fn temporary(workspace: &Workspace) -> std::path::PathBuf {
    let dir = workspace.path("tmp");
    std::fs::create_dir_all(&dir).expect("create a directory");
    dir
}

#[track_caller]
fn assert_nothing_left(workspace: &Workspace) {
    let leftovers: Vec<_> = std::fs::read_dir(temporary(workspace))
        .expect("list the directory")
        .flatten()
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn demo_prints_plain_lines_and_passes_in_a_pipe() {
    let workspace = Workspace::new();
    let output = demo(&workspace).output().expect("run procref");
    let (out, err) = output_text(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(!out.contains('\x1b'), "{out}");
    assert!(out.contains("All 8 checks passed"), "{out}");
    assert_nothing_left(&workspace);
}

#[test]
fn demo_updates_a_table_on_a_terminal() {
    let workspace = Workspace::new();
    let template = demo(&workspace);
    let mut command = Command::new("script");
    // `script` runs the demo in a pseudo-terminal of this size, and returns the exit code of the demo.
    let program = template.get_program().to_string_lossy();
    let inside = format!("stty rows 40 cols 100; exec '{program}' demo");
    command
        .args(["-qec", &inside, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    copy_environment(&template, &mut command);
    let output = command.output().expect("run script");
    let (out, err) = output_text(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("All 8 checks passed"), "{out}");
    // The output has cursor movements, and a row of the table shows each state.
    assert!(out.contains("\x1b["), "{out}");
    for state in ["waits for the service", "works", "killed", "has left"] {
        assert!(out.contains(state), "{state}: {out}");
    }
    assert_nothing_left(&workspace);
}

/// Reads lines until this client has the service, and returns the client's process.
///
/// Returns `None` if the demo has already ended the client.
#[track_caller]
fn client(
    number: u32,
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
) -> Option<Identity> {
    let start = format!("client {number} (pid ");
    let line = lines
        .map(|line| line.expect("a line"))
        .find(|line| line.contains(&start) && line.contains("has the service"));
    let line = line.unwrap_or_else(|| panic!("client {number} never had the service"));
    let pid = line
        .split(&start)
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    Identity::of(pid.and_then(|pid| pid.parse().ok()).expect("a pid"))
}

/// Calls `disturb` on a running demo when a client has the service, and returns the output of the failed demo.
///
/// The demo continues at the same time. On a busy machine it may succeed before `disturb` has an effect. Then this
/// function tries again.
fn fail_by(
    workspace: &Workspace,
    number: u32,
    disturb: impl Fn(&Child, Option<Identity>),
) -> Output {
    const TRIALS: usize = 20;

    for _ in 0..TRIALS {
        let mut demo = demo(workspace);
        let mut child = demo
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run procref");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let client = client(number, &mut lines);
        disturb(&child, client);
        lines.for_each(|line| drop(line.expect("a line")));
        let output = child.wait_with_output().expect("wait for the demo");
        if let Some(client) = client {
            client.wait_exit();
        }
        assert_nothing_left(workspace);
        if !output.status.success() {
            return output;
        }
    }
    panic!("{TRIALS} demos succeeded");
}

#[test]
fn demo_fails_when_a_client_ends_unexpectedly() {
    let workspace = Workspace::new();
    let output = fail_by(&workspace, 6, |_, client| {
        if let Some(client) = client {
            client.kill();
        }
    });
    let (_, err) = output_text(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("client 6 exited unexpectedly (signal: 9"),
        "{err}"
    );
}

#[test]
fn demo_leaves_nothing_when_interrupted() {
    let workspace = Workspace::new();
    let output = fail_by(&workspace, 1, |demo, _| {
        live_process(&demo.id().to_string()).signal(Signal::INT);
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(output_text(&output).1.contains("interrupted"));
}
