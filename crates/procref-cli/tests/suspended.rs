//! Processes that are suspended: clients in the middle of a start, and supervisors.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{
    PROCREF, path_text,
    sandbox::{Holder, Running, Sandbox, finish},
};

fn fifo(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.path(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).expect("a pipe");
    path
}

/// Blocks until a process reads from the pipe.
fn open(fifo: &Path) {
    fs::write(fifo, "go\n").expect("a reader");
}

#[track_caller]
fn suspend(process: Identity) {
    process.signal(Signal::STOP);
    deadline::until_true("it is suspended", || process.is_suspended());
}

/// The process that a key of `status --json` names.
#[track_caller]
fn process_of(sandbox: &Sandbox, key: &str) -> Identity {
    let mut status = serde_json::Value::Null;
    deadline::until("a process", || {
        let mut command = sandbox.procref("db");
        let done = finish(command.args(["status", "db", "--json"]));
        status = serde_json::from_str(&done.out).unwrap_or_default();
        let pid = u32::try_from(status[key].as_u64()?).ok()?;
        Identity::of(pid)
    })
}

#[track_caller]
fn until_state(sandbox: &Sandbox, state: &str) {
    deadline::until_true(state, || {
        let done = sandbox.run("db", &["ps"]);
        done.out.contains(state)
    });
}

/// Runs a client that starts the service, which waits at the pipe, and suspends the client. Its options are
/// those of the service.
fn suspended_starter(sandbox: &Sandbox, options: &[String]) -> Running {
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(options);
    let starter = Running::new(command.args(["--", "sh", "-c", "echo held; read -r line"]));
    deadline::until_true("the service is executed, and not ready", || {
        let done = sandbox.run("db", &["status", "db", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&done.out).unwrap_or_default();
        status["state"] == "starting" && !status["pid"].is_null() && !status["log"].is_null()
    });
    suspend(starter.identity());
    starter
}

/// What a user is told of the suspended client, by every command.
#[track_caller]
fn names_suspended(sandbox: &Sandbox, starter: Identity, options: &[String]) {
    let pid = starter.pid;
    let status = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(status["transition"], pid, "{status}");
    assert_eq!(status["transition_suspended"], true, "{status}");
    let holders = status["holders"].as_array().expect("a list");
    let holder = holders.iter().find(|it| it["pid"] == pid);
    assert_eq!(holder.expect("the starter")["suspended"], true, "{status}");
    let shown = sandbox.stdout("db", &["status", "db"]);
    assert!(
        shown.contains(&format!("by process {pid} (suspended)")),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("pid {pid} (suspended), running")),
        "{shown}"
    );
    let shown = sandbox.stdout("db", &["ps"]);
    assert!(
        shown.contains(&format!("starting by {pid} (suspended)")),
        "{shown}"
    );

    let mut command = sandbox.procref("db");
    command
        .args(["run", "db", "--wait-timeout", "500ms"])
        .args(options);
    let done = finish(command.args(["--", "true"]));
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(
        done.err
            .contains(&format!("process {pid} is in the way (suspended")),
        "{done:?}"
    );
    assert!(done.err.contains(&format!("kill -CONT {pid}")), "{done:?}");

    let begun = Instant::now();
    let done = sandbox.run("db", &["stop", "db", "--force"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.err.contains(&format!("process {pid}, which is")),
        "{done:?}"
    );
    assert!(done.err.contains(&format!("kill -CONT {pid}")), "{done:?}");
    // Not at the end of any time limit. The shortest is a minute.
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );

    let done = sandbox.run("db", &["stop", "db"]);
    let (code, named) = match holders.len() {
        1 => (1, format!("kill -CONT {pid}")),
        _ => (4, format!("pid {pid} (suspended)")),
    };
    assert_eq!(done.code, Some(code), "{done:?}");
    assert!(done.err.contains(&named), "{done:?}");
}

#[test]
fn g4_suspended_starter_is_named_instead_of_its_supervisor() {
    let sandbox = Sandbox::new();
    let gate = fifo(&sandbox, "gate");
    let options = sandbox.service_after("db", &format!("read x <{}", path_text(&gate)));
    let mut starter = suspended_starter(&sandbox, &options);
    names_suspended(&sandbox, starter.identity(), &options);
    starter.identity().signal(Signal::CONT);
    open(&gate);
    assert_eq!(starter.line(), "held");
    starter.send("end\n");
    assert_eq!(starter.wait().code(), Some(0));
    sandbox.assert_stopped("db", 1);
}

/// The lock's other clients hold references as the starter does.
#[test]
fn g4_suspended_starter_is_named_among_other_clients() {
    let sandbox = Sandbox::new();
    let gate = fifo(&sandbox, "gate");
    let block = sandbox.path("block");
    let code = format!(
        "test ! -e {} || read x <{}",
        path_text(&block),
        path_text(&gate)
    );
    let options = sandbox.service_after("db", &code);
    let holders: Vec<_> = (0..3).map(|_| sandbox.hold("db", &options)).collect();
    fs::write(&block, "").expect("a file");
    let first = sandbox.instance("db");
    first.kill();
    first.wait_exit();
    let mut starter = suspended_starter(&sandbox, &options);
    names_suspended(&sandbox, starter.identity(), &options);
    starter.identity().signal(Signal::CONT);
    open(&gate);
    assert_eq!(starter.line(), "held");
    starter.send("end\n");
    assert_eq!(starter.wait().code(), Some(0));
    holders.into_iter().for_each(Holder::leave);
    sandbox.assert_nothing_left();
}

/// Starts `procref stop` of a pinned service that ends when the test opens the gate, and returns when the service has
/// the stop signal.
fn stop_under_way(sandbox: &Sandbox, gate: &Path) -> Running {
    let told = sandbox.path("told");
    let start = format!(
        "sh -c 'trap \"touch {}; until read x <{}; do :; done; exit 0\" TERM; echo ready; \
         while :; do sleep 3600 & wait $!; done'",
        path_text(&told),
        path_text(gate)
    );
    let mut command = sandbox.procref("db");
    command.args(["pin", "db", "--start", &start]);
    let done = finish(command.args(["--ready", "log:^ready$", "--grace", "1h"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut command = sandbox.procref("db");
    let stop = Running::new(command.args(["stop", "db"]));
    deadline::until_true("it is told to stop", || told.exists());
    stop
}

#[test]
fn g4_stop_waits_for_another_stop_and_names_it() {
    for force in [&[][..], &["--force"]] {
        let sandbox = Sandbox::new();
        let gate = fifo(&sandbox, "gate");
        let mut first = stop_under_way(&sandbox, &gate);
        let mut command = sandbox.command("sh");
        let script = format!("exec {} stop db {} 2>&1", PROCREF, force.join(" "));
        let mut second = Running::new(command.args(["-c", &script]));
        let pid = first.child.id();
        let line = second.line();
        assert!(
            line.contains(&format!("waiting for process {pid}")),
            "{line}"
        );
        open(&gate);
        assert_eq!(second.line(), "service `db` has stopped");
        assert_eq!(second.wait().code(), Some(0));
        assert_eq!(first.wait().code(), Some(0));
        sandbox.assert_nothing_left();
    }
}

#[test]
fn g4_stop_names_a_suspended_stop() {
    let sandbox = Sandbox::new();
    let gate = fifo(&sandbox, "gate");
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
    open(&gate);
    assert_eq!(first.wait().code(), Some(0));
    sandbox.assert_nothing_left();
}

/// A client that is killed while it is suspended leaves the rest to its supervisor.
#[test]
fn g3_killed_suspended_starter_leaves_nothing() {
    let sandbox = Sandbox::new();
    let gate = fifo(&sandbox, "gate");
    let options = sandbox.service_after("db", &format!("read x <{}", path_text(&gate)));
    let mut starter = suspended_starter(&sandbox, &options);
    starter.identity().kill();
    starter.wait();
    sandbox.assert_nothing_left();
}

#[test]
fn stop_names_the_starting_process_that_it_waits_for() {
    let sandbox = Sandbox::new();
    let gate = fifo(&sandbox, "gate");
    let options = sandbox.service_after("db", &format!("read x <{}", path_text(&gate)));
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(&options);
    let starter = Running::new(command.args(["--", "sh", "-c", "echo held; read -r line"]));
    until_state(&sandbox, "starting");
    let mut command = sandbox.command("sh");
    // Its messages, line by line.
    let script = format!("exec {} stop db --force 2>&1", PROCREF);
    let mut stop = Running::new(command.args(["-c", &script]));
    let pid = starter.child.id();
    let line = stop.line();
    assert!(
        line.contains(&format!("waiting for process {pid}")),
        "{line}"
    );
    open(&gate);
    let line = stop.line();
    assert_eq!((line.as_str(), stop.wait().code()), ("stopped db", Some(0)));
    // Whether its client ran for a moment depends on which of the two was faster.
    drop(starter);
    sandbox.assert_nothing_left();
}

#[test]
fn g4_next_client_resumes_the_supervisor_of_a_dead_service() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let mut command = sandbox.procref("db");
    let done = finish(command.args(["pin", "db"]).args(&options));
    assert_eq!(done.code, Some(0), "{done:?}");
    let service = sandbox.instance("db");
    let supervisor = process_of(&sandbox, "supervisor");
    suspend(supervisor);
    let status = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(status["supervisor_suspended"], true, "{status}");
    let shown = sandbox.stdout("db", &["status", "db"]);
    assert!(
        shown.contains(&format!("pid {} (suspended)", supervisor.pid)),
        "{shown}"
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
    let (gate, left) = (fifo(&sandbox, "gate"), sandbox.path("left"));
    // What the service leaves ends only when it is let, and nothing else ends it for an hour.
    let leaves = format!(
        "test -e {left} || sh -c \"trap : TERM; touch {left}; until read x <{gate}; do :; done\" &",
        left = path_text(&left),
        gate = path_text(&gate)
    );
    let mut options = sandbox.service_after("db", &format!("{leaves} :"));
    options.extend(["--grace", "1h"].map(str::to_owned));
    let mut command = sandbox.procref("db");
    let done = finish(command.args(["pin", "db"]).args(&options));
    assert_eq!(done.code, Some(0), "{done:?}");
    deadline::until_true("it has started another process", || left.exists());
    let (service, supervisor) = (sandbox.instance("db"), process_of(&sandbox, "supervisor"));
    service.kill();
    service.wait_exit();
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(&options);
    let mut client = Running::new(command.args(["--", "sh", "-c", "echo held; read -r line"]));
    let pid = client.child.id();
    deadline::until_true("the client has the lock", || {
        sandbox.json("db", &["ps", "--json"])["services"][0]["transition"] == pid
    });
    // Not waited for: the client may continue it before anybody sees that.
    supervisor.signal(Signal::STOP);
    open(&gate);
    assert_eq!(client.line(), "held");
    supervisor.wait_exit();
    client.send("end\n");
    assert_eq!(client.wait().code(), Some(0));
    sandbox.stdout("db", &["stop", "db"]);
    sandbox.assert_nothing_left();
}

#[test]
fn g3_stop_resumes_a_suspended_supervisor() {
    for force in [&["stop", "db"][..], &["stop", "db", "--force"]] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.procref("db");
        let done = finish(command.args(["pin", "db"]).args(sandbox.service("db")));
        assert_eq!(done.code, Some(0), "{done:?}");
        let supervisor = process_of(&sandbox, "supervisor");
        suspend(supervisor);
        sandbox.stdout("db", force);
        supervisor.wait_exit();
        sandbox.assert_stopped("db", 1);
    }
}

#[test]
fn g3_wait_stopped_resumes_a_suspended_supervisor() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("db", &sandbox.service("db"));
    let supervisor = process_of(&sandbox, "supervisor");
    suspend(supervisor);
    holder.leave();
    sandbox.stdout("db", &["wait", "db", "--stopped", "--timeout", "60s"]);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn g4_next_client_resumes_a_supervisor_suspended_in_stop() {
    let sandbox = Sandbox::new();
    let (gate, told) = (fifo(&sandbox, "gate"), sandbox.path("told"));
    let start = format!(
        "sh -c 'trap \"touch {}; until read x <{}; do :; done; exit 0\" TERM; echo ready; \
         while :; do sleep 3600 & wait $!; done'",
        path_text(&told),
        path_text(&gate)
    );
    let options = ["--start", &start, "--ready", "log:^ready$", "--grace", "1h"].map(str::to_owned);
    let holder = sandbox.hold("db", &options);
    let supervisor = process_of(&sandbox, "supervisor");
    holder.leave();
    deadline::until_true("it is told to stop", || told.exists());
    suspend(supervisor);
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(sandbox.service("db"));
    let client = Running::new(command.args(["--", "echo", "held"]));
    open(&gate);
    assert_eq!(client.line(), "held");
    supervisor.wait_exit();
    sandbox.assert_stopped("db", 1);
}
