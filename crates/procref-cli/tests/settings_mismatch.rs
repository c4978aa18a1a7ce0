//! The warning of a client that joins an instance whose settings differ from its own.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::time::{Duration, Instant};

use procref_testkit::deadline;
use rustix::process::Signal;
use support::{
    live_process, output_text,
    workspace::{Project, Workspace},
};

/// Returns a service that lingers, so that the next client joins it although the file has changed.
fn configuration(start: &str, export: &str, more: &str) -> String {
    format!(
        "[services.w]\nstart = \"{start}\"\nready = \"started\"\nlinger = \"60s\"\n\
         export = {{ V = \"{export}\" }}\n{more}\n"
    )
}

/// Runs a client that must succeed, and returns its standard output and its standard error.
#[track_caller]
fn run(project: &Project<'_>, args: &[&str]) -> (String, String) {
    let output = project.procref(args).output().expect("run procref");
    let (out, err) = output_text(&output);
    assert!(output.status.success(), "{args:?}: {out}{err}");
    (out, err)
}

const SHOW: [&str; 5] = ["--", "sh", "-c", "echo $PROCREF_PID $V", "sh"];

/// Asserts that the only line of standard error warns about these settings.
#[track_caller]
fn assert_warned(err: &str, settings: &str) {
    let warning = format!("other settings than this client's ({settings});");
    assert!(err.contains(&warning), "{err}");
    assert!(err.contains("`procref stop w`"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn client_with_changed_settings_is_warned_and_gets_old_exports() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &configuration("sleep 100", "one", ""));
    let show = |command: &[&str]| run(&project, &[command, &SHOW].concat());
    let (old, err) = show(&["run", "w"]);
    assert!(old.ends_with(" one\n"), "{old}");
    assert_eq!(err, "");

    project.configure(&configuration("sleep 101", "two", "grace = \"3s\""));
    let (joined, err) = show(&["run", "w"]);
    assert_eq!(
        joined, old,
        "the client joins the old instance and gets its exports"
    );
    assert_warned(&err, "export, grace, start");
    let (joined, err) = show(&["run", "--quiet", "w"]);
    assert_eq!((joined, err), (old.clone(), String::new()));
    let (joined, err) = show(&["run", "--watch-client", "w"]);
    assert_eq!(joined, old);
    assert_warned(&err, "export, grace, start");
    let (_, err) = run(&project, &["pin", "w"]);
    assert!(err.contains("(export, grace, start)"), "{err}");
    let status = project.output(&["status", "w"]);
    assert!(
        status.contains("differ from this client's: export, grace, start"),
        "{status}"
    );

    project.output(&["stop", "w"]);
    let (new, err) = show(&["run", "w"]);
    assert!(new != old && new.ends_with(" two\n"), "{new}");
    assert_eq!(err, "");
    project.output(&["stop", "w"]);
}

#[test]
fn client_requesting_another_port_is_warned() {
    let workspace = Workspace::new();
    let server = format!("{} {{port}}", server::command());
    let project = workspace.project("app", "");
    let run_own = |more: &[&'static str]| {
        let command = ["run", "w", "--start", &server];
        run(&project, &[&command[..], more, &["--", "true"]].concat())
    };
    run(&project, &["pin", "w", "--start", &server]);
    assert_eq!(run_own(&[]).1, "");
    assert_warned(&run_own(&["--port", "17777"]).1, "port");
    // A client without a start command is warned about the port that it requests.
    let (_, err) = run(&project, &["run", "w", "--port", "17777", "--", "true"]);
    assert_warned(&err, "port");
    assert_eq!(run(&project, &["run", "w", "--", "true"]).1, "");
    project.output(&["stop", "w"]);
}

#[test]
fn changed_dependency_is_named_in_the_warning() {
    let workspace = Workspace::new();
    let front =
        "[services.front]\nstart = \"sleep 100\"\nready = \"started\"\ndepends-on = [\"w\"]\n";
    let project = workspace.project("app", &configuration("sleep 100", "one", front));
    let held = project.hold("w", "true");
    project.configure(&configuration("sleep 101", "one", front));
    let (_, err) = run(&project, &["run", "front", "--", "true"]);
    assert!(err.contains("service `w`"), "{err}");
    assert_warned(&err, "start");
    held.leave();
    // The process of `front` holds `w` until it exits.
    project.output(&["wait", "front", "--stopped"]);
    project.output(&["stop", "w"]);
}

/// `wait` does not wait for a dead service, because only the next client starts it again.
#[test]
fn wait_for_a_dead_service_fails_at_once() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &configuration("sleep 100", "one", ""));
    run(&project, &["pin", "w"]);
    let pid = run(
        &project,
        &["run", "w", "--", "sh", "-c", "echo $PROCREF_PID"],
    )
    .0;
    let service = live_process(pid.trim_end());
    project.output(&["wait", "w"]);
    service.signal(Signal::KILL);
    deadline::until_true("the status shows how the service ended", || {
        let status = project
            .procref(&["status", "w"])
            .output()
            .expect("run procref");
        output_text(&status).0.contains("signal 9")
    });
    let start = Instant::now();
    let (code, err) = project.failure(&["wait", "w", "--timeout", "60s"]);
    assert_eq!(code, 3, "{err}");
    assert!(
        err.contains("service `w` is dead: it was killed by signal 9"),
        "{err}"
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    project.output(&["stop", "w"]);
}
