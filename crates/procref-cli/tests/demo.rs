//! `procref demo`: what it shows is so, or it fails.

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{live_process, output_text, workspace::Workspace};

/// In a directory for temporary files of its own, of which nothing may be left.
fn demo(workspace: &Workspace) -> Command {
    let mut command = workspace.procref(Path::new("/"));
    command.arg("demo").env("TMPDIR", temporary(workspace));
    command
}

fn temporary(workspace: &Workspace) -> std::path::PathBuf {
    let dir = workspace.path("tmp");
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

#[track_caller]
fn assert_nothing_left(workspace: &Workspace) {
    let left: Vec<_> = std::fs::read_dir(temporary(workspace))
        .expect("read")
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn demo_prints_plain_lines_and_passes_in_a_pipe() {
    let workspace = Workspace::new();
    let output = demo(&workspace).output().expect("run");
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
    let (out, err) = output_text(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("All 8 checks passed"), "{out}");
    // Cursor movements, and rows in which something changes.
    assert!(out.contains("\x1b["), "{out}");
    for state in ["waits for the service", "works", "killed", "has left"] {
        assert!(out.contains(state), "{state}: {out}");
    }
    assert_nothing_left(&workspace);
}

/// When this client has the service: its process, if the demo has not ended it by now.
#[track_caller]
fn client(
    number: u32,
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
) -> Option<Identity> {
    let start = format!("client {number} (pid ");
    let line = lines
        .map(|line| line.expect("a line"))
        .find(|line| line.contains(&start) && line.contains("has the service"));
    let line = line.unwrap_or_else(|| panic!("client {number} was never there"));
    let pid = line
        .split(&start)
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    Identity::of(pid.and_then(|pid| pid.parse().ok()).expect("a pid"))
}

/// Runs the demo, does something to it when a client has the service, and returns how it ended. The demo goes
/// on meanwhile: on a busy machine it may be over before that is done, and then it is tried again.
fn disturbed(
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
            .expect("run");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let client = client(number, &mut lines);
        disturb(&child, client);
        lines.for_each(|line| drop(line.expect("a line")));
        let output = child.wait_with_output().expect("wait");
        if let Some(client) = client {
            client.wait_exit();
        }
        assert_nothing_left(workspace);
        if !output.status.success() {
            return output;
        }
    }
    panic!("{TRIALS} times in vain");
}

#[test]
fn demo_fails_when_a_client_ends_unexpectedly() {
    let workspace = Workspace::new();
    let output = disturbed(&workspace, 6, |_, client| {
        if let Some(client) = client {
            client.kill();
        }
    });
    let (_, err) = output_text(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("client 6 ended with signal: 9"), "{err}");
}

#[test]
fn demo_leaves_nothing_when_interrupted() {
    let workspace = Workspace::new();
    let output = disturbed(&workspace, 1, |demo, _| {
        live_process(&demo.id().to_string()).signal(Signal::INT);
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(output_text(&output).1.contains("interrupted"));
}
