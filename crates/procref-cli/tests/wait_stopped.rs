//! `run --watch-client --wait-stopped`, and procref as the first process of a container.

#![cfg(target_os = "linux")]

mod support;

use procref_testkit::kernel;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{
    PROCREF,
    sandbox::{LEAVES_ORPHANS, Running, SERVE, Sandbox, finish, shell_command},
    user_namespace,
};

/// Starts a client with `--watch-client --wait-stopped`. `command` is the program `procref`.
fn run_waiting(
    sandbox: &Sandbox,
    command: &mut std::process::Command,
    options: &[&str],
    script: &str,
) -> Running {
    command.args(["run", "db", "--watch-client", "--wait-stopped"]);
    command.args(options).args(sandbox.service("db"));
    Running::new(command.args(["--", "sh", "-c", script]))
}

#[test]
fn wait_stopped_returns_the_clients_code_after_the_service() {
    let sandbox = Sandbox::new();
    for options in [&[][..], &["--linger", "1h"]] {
        let mut running = run_waiting(
            &sandbox,
            &mut sandbox.procref("db"),
            options,
            "echo held; read -r line; exit 7",
        );
        assert_eq!(running.line(), "held");
        let service = sandbox.instance("db");
        running.send("go\n");
        assert_eq!(running.wait().code(), Some(7), "{options:?}");
        assert!(!service.is_live(), "{options:?}");
    }
    sandbox.assert_stopped("db", 2);
}

#[test]
fn wait_stopped_returns_at_once_when_service_is_held_or_pinned() {
    let sandbox = Sandbox::new();
    let script = "echo held; read -r line; exit 7";
    let mut running = run_waiting(&sandbox, &mut sandbox.procref("db"), &[], script);
    assert_eq!(running.line(), "held");
    let other = sandbox.hold("db", &sandbox.service("db"));
    let service = sandbox.instance("db");
    running.send("go\n");
    assert_eq!(running.wait().code(), Some(7));
    assert!(service.is_live());
    sandbox.pin("db", &sandbox.service("db"));
    other.leave();
    let mut running = run_waiting(&sandbox, &mut sandbox.procref("db"), &[], "exit 8");
    assert_eq!(running.wait().code(), Some(8));
    assert!(service.is_live());
    sandbox.stdout("db", &["stop", "db"]);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn wait_stopped_is_bounded_by_the_grace_of_the_service() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.procref("db");
    command.args([
        "run",
        "db",
        "--watch-client",
        "--wait-stopped",
        "--grace",
        "200ms",
    ]);
    let start = format!("sh -c \"trap : TERM; {SERVE}\"");
    command.args(["--start", &start, "--ready", "log:^ready$"]);
    let done = finish(command.args(["--", "sh", "-c", "exit 7"]));
    assert_eq!(done.code, Some(7), "{done:?}");
    // procref killed the service before it returned.
    assert!(kernel::find(sandbox.key("db")).is_none());
    sandbox.assert_nothing_left();
}

#[test]
fn wait_stopped_requires_watch_client() {
    let sandbox = Sandbox::new();
    let done = sandbox.run("db", &["run", "db", "--wait-stopped", "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err.contains("--watch-client"), "{done:?}");
}

/// Returns `procref` as the first process of a pid namespace, which it is in a container.
fn in_container(sandbox: &Sandbox) -> std::process::Command {
    sandbox.register("db");
    let mut command = sandbox.command("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--ipc", "--kill-child"]);
    command.args(user_namespace()).arg("--");
    // A script starts its background processes with these signals ignored, and a shell cannot trap ignored signals.
    command
        .args(["env", "--default-signal=INT,QUIT"])
        .arg(PROCREF);
    command
}

/// Returns the process that `unshare` has forked.
fn first_process(unshare: Identity) -> Identity {
    *unshare.children().first().expect("a child")
}

/// A container runtime signals the first process. procref passes the signal on, and waits until the service has stopped.
#[test]
fn g3_container_init_stops_the_service_gracefully() {
    let sandbox = Sandbox::new();
    let realtime = [libc::SIGRTMIN() + 3, libc::SIGPWR];
    let plain = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ];
    let signals = plain.into_iter().chain([libc::SIGWINCH]).chain(realtime);
    let mut starts = 0;
    for signal in signals {
        let script = format!("trap 'exit 9' {signal}; echo here; while :; do sleep 0.05; done");
        let mut running = run_waiting(&sandbox, &mut in_container(&sandbox), &[], &script);
        assert_eq!(running.line(), "here");
        let first = first_process(running.identity());
        // The shell sends the signal, because the program `kill` is not installed everywhere.
        let mut kill = std::process::Command::new("sh");
        kill.args(["-c", &format!("kill -{signal} {}", first.pid)]);
        assert!(kill.status().expect("run kill").success());
        assert_eq!(running.wait().code(), Some(9), "signal {signal}");
        starts += 1;
        let history = sandbox.history("db");
        let stops = history
            .iter()
            .filter(|line| line.starts_with("stop"))
            .count();
        assert_eq!(stops, starts, "signal {signal}: {history:?}");
        assert_eq!(sandbox.files(), [] as [std::path::PathBuf; 0]);
    }
}

#[test]
fn container_init_stops_orphans_of_the_client() {
    let sandbox = Sandbox::new();
    let mut running = run_waiting(&sandbox, &mut in_container(&sandbox), &[], LEAVES_ORPHANS);
    assert_eq!(running.line(), "here");
    first_process(running.identity()).signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(143));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn container_init_stops_lingering_services_and_reaps_orphans() {
    let sandbox = Sandbox::new();
    // The orphans of the client stay zombies until procref reaps them.
    let script = "for i in 1 2 3; do sh -c 'sh -c true &'; done; \
                  until ! grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.05; done; echo reaped; exit 7";
    let mut running = run_waiting(
        &sandbox,
        &mut in_container(&sandbox),
        &["--linger", "1h"],
        script,
    );
    assert_eq!(running.line(), "reaped");
    assert_eq!(running.wait().code(), Some(7));
    sandbox.assert_stopped("db", 1);
    let pin = shell_command(&sandbox, &["pin", "db"], "db");
    let mut running = run_waiting(
        &sandbox,
        &mut in_container(&sandbox),
        &[],
        &format!("{pin}; exit 7"),
    );
    assert_eq!(running.wait().code(), Some(7));
    sandbox.assert_stopped("db", 2);
}
