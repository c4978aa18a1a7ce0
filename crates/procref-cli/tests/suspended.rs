//! Suspended processes: clients in the middle of a start, and supervisors.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procref_testkit::observe::Identity;
use procref_testkit::{deadline, kernel};
use rustix::process::Signal;
use support::{
    PROCREF, create_gate, open_gate, path_text,
    sandbox::{HOLD, Holder, Running, SERVE, Sandbox, finish, wait_at_gate},
};

fn gate(sandbox: &Sandbox) -> PathBuf {
    create_gate(sandbox.path("gate"))
}

#[track_caller]
fn suspend(process: Identity) {
    process.signal(Signal::STOP);
    deadline::until_true("the process is suspended", || process.is_suspended());
}

/// Returns the options of a service that waits at the gate before it is ready.
fn gated_service(sandbox: &Sandbox, gate: &Path) -> Vec<String> {
    sandbox.service_after("db", &wait_at_gate(gate))
}

/// Returns shell code that creates a file, and then waits until the gate is opened. Signals do not end the
/// wait.
///
/// The shell keeps the pipe open. If it reopened the pipe after a signal, the line of the gate could be lost.
fn wait_for_gate_despite_signals(started: &Path, gate: &Path) -> String {
    format!(
        "exec 3<>{}; touch {}; until read x <&3; do :; done",
        path_text(gate),
        path_text(started)
    )
}

/// Returns the options of a service whose stop waits at the gate, and the file that the stop creates first.
fn service_with_gated_stop(sandbox: &Sandbox, gate: &Path) -> ([String; 6], PathBuf) {
    let stopping = sandbox.path("stopping");
    let wait = wait_for_gate_despite_signals(&stopping, gate);
    let start = format!("sh -c 'trap \"{wait}; exit 0\" TERM; {SERVE}'");
    let options = ["--start", &start, "--ready", "log:^ready$", "--grace", "1h"];
    (options.map(str::to_owned), stopping)
}

/// Runs a client that starts a service of [`gated_service`], and waits until the service is executed.
fn starter(sandbox: &Sandbox, options: &[String]) -> Running {
    let starter = sandbox.run_client("db", options, HOLD);
    deadline::until_true("the service is executed and not ready", || {
        let done = sandbox.run("db", &["status", "db", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&done.out).unwrap_or_default();
        status["state"] == "starting" && !status["pid"].is_null() && !status["log"].is_null()
    });
    starter
}

/// Runs a [`starter`], and suspends it.
fn suspended_starter(sandbox: &Sandbox, options: &[String]) -> Running {
    let starter = starter(sandbox, options);
    suspend(starter.identity());
    starter
}

/// Asserts that every command names the suspended client that starts the service.
#[track_caller]
fn assert_starter_is_named(sandbox: &Sandbox, starter: Identity, options: &[String]) {
    let pid = starter.pid;
    let status = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(status["transition"], pid, "{status}");
    assert_eq!(status["transition_suspended"], true, "{status}");
    let holders = status["holders"].as_array().expect("a list");
    let holder = holders.iter().find(|it| it["pid"] == pid);
    assert_eq!(holder.expect("the starter")["suspended"], true, "{status}");
    let text = sandbox.stdout("db", &["status", "db"]);
    assert!(
        text.contains(&format!("by process {pid} (suspended)")),
        "{text}"
    );
    assert!(
        text.contains(&format!("pid {pid} (suspended), running")),
        "{text}"
    );
    let table = sandbox.stdout("db", &["ps"]);
    assert!(
        table.contains(&format!("starting by {pid} (suspended)")),
        "{table}"
    );

    let mut command = sandbox.procref("db");
    command
        .args(["run", "db", "--wait-timeout", "500ms"])
        .args(options);
    let done = finish(command.args(["--", "true"]));
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(
        done.err
            .contains(&format!("lock held by process {pid}, which is suspended")),
        "{done:?}"
    );
    assert!(done.err.contains(&format!("kill -CONT {pid}")), "{done:?}");

    let start = Instant::now();
    let done = sandbox.run("db", &["stop", "db", "--force"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.err.contains(&format!("process {pid}, which is")),
        "{done:?}"
    );
    assert!(done.err.contains(&format!("kill -CONT {pid}")), "{done:?}");
    // The error is reported before any time limit has passed. The shortest limit is a minute.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );

    let done = sandbox.run("db", &["stop", "db"]);
    let (code, named) = match holders.len() {
        1 => (1, format!("kill -CONT {pid}")),
        _ => (4, format!("pid {pid} (suspended)")),
    };
    assert_eq!(done.code, Some(code), "{done:?}");
    assert!(done.err.contains(&named), "{done:?}");
}

/// Resumes the starter, opens the gate of its service, and waits until the starter has left the service.
#[track_caller]
fn resume_starter(starter: Running, gate: &Path) {
    starter.identity().signal(Signal::CONT);
    open_gate(gate);
    assert_eq!(starter.line(), "held");
    starter.release();
}

#[test]
fn g4_suspended_starter_is_named_instead_of_its_supervisor() {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    let options = gated_service(&sandbox, &gate);
    let starter = suspended_starter(&sandbox, &options);
    assert_starter_is_named(&sandbox, starter.identity(), &options);
    resume_starter(starter, &gate);
    sandbox.assert_stopped("db", 1);
}

/// The other clients hold references as the starter does.
#[test]
fn g4_suspended_starter_is_named_among_other_clients() {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    let block = sandbox.path("block");
    let code = format!("test ! -e {} || {}", path_text(&block), wait_at_gate(&gate));
    let options = sandbox.service_after("db", &code);
    let holders: Vec<_> = (0..3).map(|_| sandbox.hold("db", &options)).collect();
    fs::write(&block, "").expect("write a file");
    let first = sandbox.instance("db");
    first.kill();
    first.wait_exit();
    let starter = suspended_starter(&sandbox, &options);
    assert_starter_is_named(&sandbox, starter.identity(), &options);
    resume_starter(starter, &gate);
    holders.into_iter().for_each(Holder::leave);
    sandbox.assert_nothing_left();
}

/// Pins a service whose stop waits at the gate, runs `procref stop`, and returns when the service is stopping.
fn stop_under_way(sandbox: &Sandbox, gate: &Path) -> Running {
    let (options, stopping) = service_with_gated_stop(sandbox, gate);
    sandbox.pin("db", &options);
    let mut command = sandbox.procref("db");
    let stop = Running::new(command.args(["stop", "db"]));
    deadline::until_true("the service has the stop signal", || stopping.exists());
    stop
}

/// Runs `procref stop db` with its messages on standard output.
fn stop_with_messages(sandbox: &Sandbox, options: &[&str]) -> Running {
    let mut command = sandbox.command("sh");
    let script = format!("exec {PROCREF} stop db {} 2>&1", options.join(" "));
    Running::new(command.args(["-c", &script]))
}

#[test]
fn g4_stop_waits_for_another_stop_and_names_it() {
    for force in [&[][..], &["--force"]] {
        let sandbox = Sandbox::new();
        let gate = gate(&sandbox);
        let mut first = stop_under_way(&sandbox, &gate);
        let mut second = stop_with_messages(&sandbox, force);
        let pid = first.child.id();
        let line = second.line();
        assert!(
            line.contains(&format!("waiting for process {pid}")),
            "{line}"
        );
        open_gate(&gate);
        assert_eq!(second.line(), "service `db` has stopped");
        assert_eq!(second.wait().code(), Some(0));
        assert_eq!(first.wait().code(), Some(0));
        sandbox.assert_nothing_left();
    }
}

#[test]
fn g4_stop_names_a_suspended_stop() {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    let mut first = stop_under_way(&sandbox, &gate);
    let pid = first.child.id();
    suspend(first.identity());
    let done = sandbox.run("db", &["stop", "db"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    for part in [
        format!("process {pid}, which is"),
        format!("kill -CONT {pid}"),
    ] {
        assert!(done.err.contains(&part), "{part}: {done:?}");
    }
    first.identity().signal(Signal::CONT);
    open_gate(&gate);
    assert_eq!(first.wait().code(), Some(0));
    sandbox.assert_nothing_left();
}

/// The supervisor cleans up after a client that is killed while it is suspended.
#[test]
fn g3_killed_suspended_starter_leaves_nothing() {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    let options = gated_service(&sandbox, &gate);
    let mut starter = suspended_starter(&sandbox, &options);
    starter.identity().kill();
    starter.wait();
    sandbox.assert_nothing_left();
}

#[test]
fn stop_names_the_starting_process_that_it_waits_for() {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    let starter = starter(&sandbox, &gated_service(&sandbox, &gate));
    let mut stop = stop_with_messages(&sandbox, &["--force"]);
    let pid = starter.child.id();
    let line = stop.line();
    assert!(
        line.contains(&format!("waiting for process {pid}")),
        "{line}"
    );
    open_gate(&gate);
    let line = stop.line();
    assert_eq!(
        (line.as_str(), stop.wait().code()),
        ("stopped `db`", Some(0))
    );
    // The client may have run for a moment, depending on which process was faster.
    drop(starter);
    sandbox.assert_nothing_left();
}

#[test]
fn g4_next_client_resumes_the_supervisor_of_a_dead_service() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    sandbox.pin("db", &options);
    let service = sandbox.instance("db");
    let supervisor = sandbox.supervisor("db");
    suspend(supervisor);
    let status = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(status["supervisor_suspended"], true, "{status}");
    let text = sandbox.stdout("db", &["status", "db"]);
    assert!(
        text.contains(&format!("pid {} (suspended)", supervisor.pid)),
        "{text}"
    );
    service.kill();
    service.wait_exit();
    let holder = sandbox.hold("db", &options);
    supervisor.wait_exit();
    holder.leave();
    sandbox.stdout("db", &["stop", "db"]);
    sandbox.assert_nothing_left();
}

#[test]
fn g4_waiting_client_resumes_a_suspended_supervisor() {
    let sandbox = Sandbox::new();
    let (gate, started) = (gate(&sandbox), sandbox.path("started"));
    // The service's child exits only when the gate is opened: the grace is an hour.
    let wait = wait_for_gate_despite_signals(&started, &gate);
    let child = format!(
        "test -e {} || sh -c \"trap : TERM; {wait}\" &",
        path_text(&started)
    );
    let mut options = sandbox.service_after("db", &format!("{child} :"));
    options.extend(["--grace", "1h"].map(str::to_owned));
    sandbox.pin("db", &options);
    deadline::until_true("the service has started its child", || started.exists());
    let (service, supervisor) = (sandbox.instance("db"), sandbox.supervisor("db"));
    service.kill();
    service.wait_exit();
    let client = sandbox.run_client("db", &options, HOLD);
    let pid = client.child.id();
    deadline::until_true("the client has the lock", || {
        sandbox.json("db", &["ps", "--json"])["services"][0]["transition"] == pid
    });
    // Do not wait until the supervisor is suspended: the client may resume it before this test observes that.
    supervisor.signal(Signal::STOP);
    open_gate(&gate);
    assert_eq!(client.line(), "held");
    if kernel::is_keeper() {
        // The keeper has another supervisor now.
        assert!(!supervisor.is_suspended());
    } else {
        supervisor.wait_exit();
    }
    client.release();
    sandbox.stdout("db", &["stop", "db"]);
    sandbox.assert_nothing_left();
}

#[test]
fn g3_stop_resumes_a_suspended_supervisor() {
    for stop in [&["stop", "db"][..], &["stop", "db", "--force"]] {
        let sandbox = Sandbox::new();
        sandbox.pin("db", &sandbox.service("db"));
        let supervisor = sandbox.supervisor("db");
        suspend(supervisor);
        sandbox.stdout("db", stop);
        supervisor.wait_exit();
        sandbox.assert_stopped("db", 1);
    }
}

#[test]
fn g3_wait_stopped_resumes_a_suspended_supervisor() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("db", &sandbox.service("db"));
    let supervisor = sandbox.supervisor("db");
    suspend(supervisor);
    holder.leave();
    let mut wait = vec!["wait", "db", "--stopped", "--timeout", "60s"];
    if kernel::is_keeper() {
        // The first step of the command continues the keeper, which may stop the service before the next step.
        wait.push("--allow-unknown");
    }
    sandbox.stdout("db", &wait);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn g4_next_client_resumes_a_supervisor_suspended_in_stop() {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    let (options, stopping) = service_with_gated_stop(&sandbox, &gate);
    let holder = sandbox.hold("db", &options);
    let supervisor = sandbox.supervisor("db");
    holder.leave();
    deadline::until_true("the service has the stop signal", || stopping.exists());
    suspend(supervisor);
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(sandbox.service("db"));
    let client = Running::new(command.args(["--", "echo", "held"]));
    open_gate(&gate);
    assert_eq!(client.line(), "held");
    supervisor.wait_exit();
    sandbox.assert_stopped("db", 1);
}
