//! Dependencies between services are acquired in order and released in reverse order, even if processes die.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::fs;

use procref_testkit::observe::Identity;
use support::{live_process, workspace::Workspace};

/// Two services: `back` is this program, and `front` depends on it.
///
/// When `front` stops, it records whether `back` still answers.
fn two_services(program: &str) -> String {
    TWO.replace("SERVER", program)
}

const TWO: &str = r#"
[services.back]
start = "SERVER {port}"
export = { BACK = "redis://127.0.0.1:{port}" }

[services.front]
depends-on = ["back"]
start = ["bash", "-c", '''
trap 'exec 3<>/dev/tcp/127.0.0.1/{back.port}; echo ping >&3; cat <&3 >>at-the-end; exit 0' TERM
echo "$BACK $PROCREF_PORT_BACK $OWN" >>at-the-start
echo ready
while :; do sleep 0.05; done
''']
env = { OWN = "own-{back.port}" }
export = { FRONT = "front-of-{back.port}" }
ready = "log:^ready"
"#;

const PIDS: &str = r#"echo "$PROCREF_PID"; echo "$PROCREF_PID_BACK""#;

fn processes(printed: &[String]) -> [Identity; 2] {
    [live_process(&printed[0]), live_process(&printed[1])]
}

#[test]
fn dependency_address_is_passed_to_service_and_clients() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &two_services(&server::command()));
    let client = project.hold("front", r#"echo "$FRONT $BACK $PROCREF_PORT_BACK""#);
    let printed = client.printed[0].clone();
    let port = printed.rsplit(' ').next().expect("a port").to_owned();
    assert_eq!(
        printed,
        format!("front-of-{port} redis://127.0.0.1:{port} {port}")
    );
    let text = fs::read_to_string(project.dir.join("at-the-start")).expect("read a file");
    assert_eq!(
        text,
        format!("redis://127.0.0.1:{port} {port} own-{port}\n")
    );
    assert!(port.parse::<u16>().is_ok_and(|port| port > 0));
}

#[test]
fn dependency_outlives_its_dependent_when_clients_leave_or_die() {
    for kill in [false, true] {
        let workspace = Workspace::new();
        let project = workspace.project("app", &two_services(&server::command()));
        let client = project.hold("front", PIDS);
        let [front, back] = processes(&client.printed);
        match kill {
            true => client.kill(),
            false => client.leave(),
        }
        front.wait_exit();
        back.wait_exit();
        let text = fs::read_to_string(project.dir.join("at-the-end")).expect("read a file");
        assert_eq!(text, "PONG\n", "killed: {kill}");
    }
}

#[test]
fn killed_dependent_releases_its_dependency() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &two_services(&server::command()));
    let client = project.hold("front", PIDS);
    let [front, back] = processes(&client.printed);
    front.kill();
    front.wait_exit();
    assert!(back.is_live(), "the client also holds the dependency");
    // The next client starts a new instance, which uses the same dependency.
    let next = project.hold("front", PIDS);
    let [new, same] = processes(&next.printed);
    assert_ne!(new, front);
    assert_eq!(same, back);
    client.leave();
    next.kill();
    new.wait_exit();
    back.wait_exit();
}

#[test]
fn client_of_the_dependency_alone_keeps_only_that_service() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &two_services(&server::command()));
    let both = project.hold("front", PIDS);
    let alone = project.hold("back", r#"echo "$PROCREF_PID""#);
    let [front, back] = processes(&both.printed);
    assert_eq!(live_process(&alone.printed[0]), back);
    both.kill();
    front.wait_exit();
    assert!(back.is_live());
    alone.leave();
    back.wait_exit();
}

#[test]
fn dependency_that_cannot_start_is_named_in_the_error() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &two_services("no-such-server"));
    let (code, stderr) = project.failure(&["run", "front", "--", "true"]);
    assert_eq!(code, 125);
    assert!(
        stderr.contains("`back`") && stderr.contains("no-such-server"),
        "{stderr}"
    );
    assert!(!project.dir.join("at-the-start").exists());
}

#[test]
fn dependency_chain_starts_last_first_and_cycle_is_refused() {
    let workspace = Workspace::new();
    let link = |name: &str, needs: &str| {
        format!(
            "[services.{name}]\nstart = ['sh', '-c', 'echo {name} >>order; echo ready; exec sleep 600']\n\
             ready = 'log:^ready'\ndepends-on = [{needs}]\n"
        )
    };
    let chain = [
        link("a", "'b', 'c'"),
        link("b", "'c'"),
        link("c", "'d'"),
        link("d", ""),
    ]
    .concat();
    let project = workspace.project("app", &chain);
    let client = project.hold("a", ":");
    let order = fs::read_to_string(project.dir.join("order")).expect("read a file");
    assert_eq!(order, "d\nc\nb\na\n");
    client.kill();
    project.configure(&chain.replace("depends-on = []", "depends-on = ['b']"));
    let (code, stderr) = project.failure(&["status", "a"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("in a cycle: b -> c -> d -> b"), "{stderr}");
}
