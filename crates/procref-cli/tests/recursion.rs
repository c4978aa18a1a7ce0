//! A service whose start uses the service itself fails at once with an error that names the reason.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use procref_testkit::deadline;
use support::{
    PROCREF,
    workspace::{Project, Workspace},
};

/// A time limit far below the start timeout of a minute.
const AT_ONCE: Duration = Duration::from_secs(30);

#[track_caller]
fn assert_refused(project: &Project<'_>, service: &str, about: &str) {
    let start = Instant::now();
    let (code, err) = project.failure(&["run", service, "--", "true"]);
    assert_eq!(code, 125, "{err}");
    let reason = format!("service `{about}`: its own start uses it");
    assert!(err.contains(&reason), "{err}");
    assert!(start.elapsed() < AT_ONCE, "{err}");
}

#[test]
fn start_using_its_own_service_fails_at_once() {
    for command in [
        "exec PROCREF run web -- sleep 100",
        "PROCREF run web -- sleep 100",
        "PROCREF hold web",
        "PROCREF pin web",
        "PROCREF wait web",
        "PROCREF stop --force web",
        "setsid PROCREF run web -- true",
    ] {
        let workspace = Workspace::new();
        let script = command.replace("PROCREF", PROCREF);
        let config =
            format!("[services.web]\nstart = ['sh', '-c', '{script} || exit 1']\nport = 'auto'\n");
        let project = workspace.project("app", &config);
        assert_refused(&project, "web", "web");
    }
}

#[test]
fn init_using_its_own_service_fails_at_once() {
    let workspace = Workspace::new();
    let config = format!(
        "[services.web]\nstart = 'sleep 100'\nready = 'started'\ndata = 'data'\n\
         init = ['{PROCREF}', 'run', 'web', '--', 'true']\n"
    );
    let project = workspace.project("app", &config);
    assert_refused(&project, "web", "web");
}

#[test]
fn services_starting_each_other_fail_at_once() {
    let workspace = Workspace::new();
    let service = |name: &str, other: &str| {
        format!(
            "[services.{name}]\nstart = ['{PROCREF}', 'run', '{other}', '--', 'sleep', '100']\nport = 'auto'\n"
        )
    };
    let config = service("a", "b") + &service("b", "c") + &service("c", "a");
    let project = workspace.project("app", &config);
    assert_refused(&project, "a", "a");
}

/// The variable that marks processes of a start is still set when the service is ready.
#[test]
fn process_of_a_ready_service_can_join_it() {
    let workspace = Workspace::new();
    let script = format!(
        "(until test -e go; do sleep 0.05; done; {PROCREF} run web -- touch joined) & \
                          echo up; exec sleep 100"
    );
    let config = format!("[services.web]\nstart = ['sh', '-c', '{script}']\nready = 'log:^up'\n");
    let project = workspace.project("app", &config);
    let client = project.hold("web", "true");
    fs::write(project.dir.join("go"), "").expect("write a file");
    deadline::until_true("the service's process has joined the service", || {
        project.dir.join("joined").exists()
    });
    client.leave();
}
