//! Processes that are suspended: clients in the middle of a start, and supervisors.

#![cfg(target_os = "linux")]

#[path = "support/sandbox.rs"]
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use stage::{Running, Stage, finish, text};

fn fifo(stage: &Stage, name: &str) -> PathBuf {
    let path = stage.path(name);
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
fn process_of(stage: &Stage, key: &str) -> Identity {
    let mut status = serde_json::Value::Null;
    deadline::until("a process", || {
        let mut command = stage.procref("db");
        let done = finish(command.args(["status", "db", "--json"]));
        status = serde_json::from_str(&done.out).unwrap_or_default();
        let pid = u32::try_from(status[key].as_u64()?).ok()?;
        Identity::of(pid)
    })
}

#[track_caller]
fn until_state(stage: &Stage, state: &str) {
    deadline::until_true(state, || {
        let done = stage.done("db", &["ps"]);
        done.out.contains(state)
    });
}

/// Runs a client that starts the service, which waits at the pipe, and suspends the client. Its options are
/// those of the service.
fn suspended_starter(stage: &Stage, options: &[String]) -> Running {
    let mut command = stage.procref("db");
    command.args(["run", "db"]).args(options);
    let starter = Running::new(command.args(["--", "sh", "-c", "echo held; read -r line"]));
    deadline::until_true("the service is executed, and not ready", || {
        let done = stage.done("db", &["status", "db", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&done.out).unwrap_or_default();
        status["state"] == "starting" && !status["pid"].is_null() && !status["log"].is_null()
    });
    suspend(starter.identity());
    starter
}

/// What a user is told of the suspended client, by every command.
#[track_caller]
fn names_suspended(stage: &Stage, starter: Identity, options: &[String]) {
    let pid = starter.pid;
    let status = stage.json("db", &["status", "db", "--json"]);
    assert_eq!(status["transition"], pid, "{status}");
    assert_eq!(status["transition_suspended"], true, "{status}");
    let holders = status["holders"].as_array().expect("a list");
    let holder = holders.iter().find(|it| it["pid"] == pid);
    assert_eq!(holder.expect("the starter")["suspended"], true, "{status}");
    let shown = stage.out("db", &["status", "db"]);
    assert!(
        shown.contains(&format!("by process {pid} (suspended)")),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("pid {pid} (suspended), running")),
        "{shown}"
    );
    let shown = stage.out("db", &["ps"]);
    assert!(
        shown.contains(&format!("starting by {pid} (suspended)")),
        "{shown}"
    );

    let mut command = stage.procref("db");
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
    let done = stage.done("db", &["stop", "db", "--force"]);
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

    let done = stage.done("db", &["stop", "db"]);
    let (code, named) = match holders.len() {
        1 => (1, format!("kill -CONT {pid}")),
        _ => (4, format!("pid {pid} (suspended)")),
    };
    assert_eq!(done.code, Some(code), "{done:?}");
    assert!(done.err.contains(&named), "{done:?}");
}

#[test]
fn g4_suspended_starter_is_named_instead_of_its_supervisor() {
    let stage = Stage::new();
    let gate = fifo(&stage, "gate");
    let options = stage.service_that("db", &format!("read x <{}", text(&gate)));
    let mut starter = suspended_starter(&stage, &options);
    names_suspended(&stage, starter.identity(), &options);
    starter.identity().signal(Signal::CONT);
    open(&gate);
    assert_eq!(starter.line(), "held");
    starter.say("end\n");
    assert_eq!(starter.wait().code(), Some(0));
    stage.ends("db", 1);
}

/// The lock's other clients hold references as the starter does.
#[test]
fn g4_suspended_starter_is_named_among_other_clients() {
    let stage = Stage::new();
    let gate = fifo(&stage, "gate");
    let block = stage.path("block");
    let code = format!("test ! -e {} || read x <{}", text(&block), text(&gate));
    let options = stage.service_that("db", &code);
    let holders: Vec<_> = (0..3).map(|_| stage.hold("db", &options)).collect();
    fs::write(&block, "").expect("a file");
    let first = stage.instance("db");
    first.kill();
    first.wait_exit();
    let mut starter = suspended_starter(&stage, &options);
    names_suspended(&stage, starter.identity(), &options);
    starter.identity().signal(Signal::CONT);
    open(&gate);
    assert_eq!(starter.line(), "held");
    starter.say("end\n");
    assert_eq!(starter.wait().code(), Some(0));
    holders.into_iter().for_each(stage::Holder::leave);
    stage.all_is_gone();
}

/// Starts `procref stop` of a pinned service that ends when the test opens the gate, and returns when the service has
/// the stop signal.
fn stop_under_way(stage: &Stage, gate: &Path) -> Running {
    let told = stage.path("told");
    let start = format!(
        "sh -c 'trap \"touch {}; until read x <{}; do :; done; exit 0\" TERM; echo ready; \
         while :; do sleep 3600 & wait $!; done'",
        text(&told),
        text(gate)
    );
    let mut command = stage.procref("db");
    command.args(["pin", "db", "--start", &start]);
    let done = finish(command.args(["--ready", "log:^ready$", "--grace", "1h"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    let mut command = stage.procref("db");
    let stop = Running::new(command.args(["stop", "db"]));
    deadline::until_true("it is told to stop", || told.exists());
    stop
}

#[test]
fn g4_stop_waits_for_another_stop_and_names_it() {
    for force in [&[][..], &["--force"]] {
        let stage = Stage::new();
        let gate = fifo(&stage, "gate");
        let mut first = stop_under_way(&stage, &gate);
        let mut command = stage.bare("sh");
        let script = format!("exec {} stop db {} 2>&1", stage::PROCREF, force.join(" "));
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
        stage.all_is_gone();
    }
}

#[test]
fn g4_stop_names_a_suspended_stop() {
    let stage = Stage::new();
    let gate = fifo(&stage, "gate");
    let mut first = stop_under_way(&stage, &gate);
    let pid = first.child.id();
    suspend(first.identity());
    let done = stage.done("db", &["stop", "db"]);
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
    stage.all_is_gone();
}

/// A client that is killed while it is suspended leaves the rest to its supervisor.
#[test]
fn g3_killed_suspended_starter_leaves_nothing() {
    let stage = Stage::new();
    let gate = fifo(&stage, "gate");
    let options = stage.service_that("db", &format!("read x <{}", text(&gate)));
    let mut starter = suspended_starter(&stage, &options);
    starter.identity().kill();
    starter.wait();
    stage.all_is_gone();
}

#[test]
fn stop_names_the_starting_process_that_it_waits_for() {
    let stage = Stage::new();
    let gate = fifo(&stage, "gate");
    let options = stage.service_that("db", &format!("read x <{}", text(&gate)));
    let mut command = stage.procref("db");
    command.args(["run", "db"]).args(&options);
    let starter = Running::new(command.args(["--", "sh", "-c", "echo held; read -r line"]));
    until_state(&stage, "starting");
    let mut command = stage.bare("sh");
    // Its messages, line by line.
    let script = format!("exec {} stop db --force 2>&1", stage::PROCREF);
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
    stage.all_is_gone();
}

#[test]
fn g4_next_client_resumes_the_supervisor_of_a_dead_service() {
    let stage = Stage::new();
    let options = stage.service("db");
    let mut command = stage.procref("db");
    let done = finish(command.args(["pin", "db"]).args(&options));
    assert_eq!(done.code, Some(0), "{done:?}");
    let service = stage.instance("db");
    let supervisor = process_of(&stage, "supervisor");
    suspend(supervisor);
    let status = stage.json("db", &["status", "db", "--json"]);
    assert_eq!(status["supervisor_suspended"], true, "{status}");
    let shown = stage.out("db", &["status", "db"]);
    assert!(
        shown.contains(&format!("pid {} (suspended)", supervisor.pid)),
        "{shown}"
    );
    service.kill();
    service.wait_exit();
    let holder = stage.hold("db", &options);
    supervisor.wait_exit();
    holder.leave();
    stage.out("db", &["stop", "db"]);
    stage.all_is_gone();
}

#[test]
fn g4_waiting_client_resumes_a_suspended_supervisor() {
    let stage = Stage::new();
    let (gate, left) = (fifo(&stage, "gate"), stage.path("left"));
    // What the service leaves ends only when it is let, and nothing else ends it for an hour.
    let leaves = format!(
        "test -e {left} || sh -c \"trap : TERM; touch {left}; until read x <{gate}; do :; done\" &",
        left = text(&left),
        gate = text(&gate)
    );
    let mut options = stage.service_that("db", &format!("{leaves} :"));
    options.extend(["--grace", "1h"].map(str::to_owned));
    let mut command = stage.procref("db");
    let done = finish(command.args(["pin", "db"]).args(&options));
    assert_eq!(done.code, Some(0), "{done:?}");
    deadline::until_true("it has started another process", || left.exists());
    let (service, supervisor) = (stage.instance("db"), process_of(&stage, "supervisor"));
    service.kill();
    service.wait_exit();
    let mut command = stage.procref("db");
    command.args(["run", "db"]).args(&options);
    let mut client = Running::new(command.args(["--", "sh", "-c", "echo held; read -r line"]));
    let pid = client.child.id();
    deadline::until_true("the client has the lock", || {
        stage.json("db", &["ps", "--json"])["services"][0]["transition"] == pid
    });
    // Not waited for: the client may continue it before anybody sees that.
    supervisor.signal(Signal::STOP);
    open(&gate);
    assert_eq!(client.line(), "held");
    supervisor.wait_exit();
    client.say("end\n");
    assert_eq!(client.wait().code(), Some(0));
    stage.out("db", &["stop", "db"]);
    stage.all_is_gone();
}

#[test]
fn g3_stop_resumes_a_suspended_supervisor() {
    for force in [&["stop", "db"][..], &["stop", "db", "--force"]] {
        let stage = Stage::new();
        let mut command = stage.procref("db");
        let done = finish(command.args(["pin", "db"]).args(stage.service("db")));
        assert_eq!(done.code, Some(0), "{done:?}");
        let supervisor = process_of(&stage, "supervisor");
        suspend(supervisor);
        stage.out("db", force);
        supervisor.wait_exit();
        stage.ends("db", 1);
    }
}

#[test]
fn g3_wait_stopped_resumes_a_suspended_supervisor() {
    let stage = Stage::new();
    let holder = stage.hold("db", &stage.service("db"));
    let supervisor = process_of(&stage, "supervisor");
    suspend(supervisor);
    holder.leave();
    stage.out("db", &["wait", "db", "--stopped", "--timeout", "60s"]);
    stage.ends("db", 1);
}

#[test]
fn g4_next_client_resumes_a_supervisor_suspended_in_stop() {
    let stage = Stage::new();
    let (gate, told) = (fifo(&stage, "gate"), stage.path("told"));
    let start = format!(
        "sh -c 'trap \"touch {}; until read x <{}; do :; done; exit 0\" TERM; echo ready; \
         while :; do sleep 3600 & wait $!; done'",
        text(&told),
        text(&gate)
    );
    let options = ["--start", &start, "--ready", "log:^ready$", "--grace", "1h"].map(str::to_owned);
    let holder = stage.hold("db", &options);
    let supervisor = process_of(&stage, "supervisor");
    holder.leave();
    deadline::until_true("it is told to stop", || told.exists());
    suspend(supervisor);
    let mut command = stage.procref("db");
    command.args(["run", "db"]).args(stage.service("db"));
    let client = Running::new(command.args(["--", "echo", "held"]));
    open(&gate);
    assert_eq!(client.line(), "held");
    supervisor.wait_exit();
    stage.ends("db", 1);
}
