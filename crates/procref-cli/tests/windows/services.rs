//! `ps`, `status`, `logs`, `stop`, `wait`, `pin`, `unpin` and `gc`.

use serde_json::Value;

use crate::sandbox::{
    Finished, Running, Sandbox, SpawnPiped as _, finish, message, next_line, pipe, query_pid,
    service_command,
};

/// A sandbox with a client that holds the service.
struct Held {
    sandbox: Sandbox,
    holder: Running,
}

impl Held {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let mut command = sandbox.procref([
            "hold",
            "db",
            "--start",
            &service_command(),
            "--port",
            "auto",
        ]);
        let mut holder = command
            .args(["--env", &message("ready to serve")])
            .spawn_piped();
        next_line(&mut holder);
        Self { sandbox, holder }
    }

    fn release(self) -> (Sandbox, Finished) {
        procref::process::terminate(self.holder.id());
        (self.sandbox, finish(self.holder))
    }
}

fn json(done: &Finished) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn ps_and_status_list_the_service_and_its_holder() {
    let held = Held::new();
    let pid = held.sandbox.events_with_pids()[0].1;
    let listed = json(&held.sandbox.run(["ps", "--json"]));
    let service = &listed["services"][0];
    assert_eq!(listed["services"].as_array().unwrap().len(), 1);
    let status = json(&held.sandbox.run(["status", "db", "--json"]));
    for report in [service, &status] {
        assert_eq!(report["name"], "db");
        assert_eq!(report["state"], "ready");
        assert_eq!(report["pid"], pid);
        assert_eq!(report["clients"], 1);
        assert_eq!(report["holders"][0]["pid"], held.holder.id());
        assert_eq!(report["supervisor"], Value::Null);
        let object = report["kernel_object"].as_str().unwrap();
        assert!(object.starts_with(r"Local\procref-"), "{object}");
    }
    assert_eq!(
        u64::from(query_pid(status["port"].as_u64().unwrap() as u16).unwrap()),
        u64::from(pid)
    );
    for (words, expected) in [(["ps", "--all"], "db"), (["status", "db"], "ready")] {
        let done = held.sandbox.run(words);
        assert!(
            done.code == Some(0) && done.out.contains(expected),
            "{done:?}"
        );
    }
    let (sandbox, done) = held.release();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        json(&sandbox.run(["ps", "--json"]))["services"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(sandbox.run(["status", "db"]).code, Some(3));
}

#[test]
fn logs_print_output_and_follow_until_the_service_stops() {
    let held = Held::new();
    let done = held.sandbox.run(["logs", "db"]);
    assert!(
        done.code == Some(0) && done.out.contains("ready to serve"),
        "{done:?}"
    );
    let mut command = held
        .sandbox
        .procref(["logs", "db", "--follow", "--lines", "1"]);
    let mut follower = command.spawn_piped();
    assert_eq!(next_line(&mut follower).trim_end(), "ready to serve");
    held.release();
    let done = finish(follower);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn stop_refuses_a_held_service_unless_forced() {
    let held = Held::new();
    let done = held.sandbox.run(["stop", "db"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.err.contains(&held.holder.id().to_string()), "{done:?}");
    assert_eq!(held.sandbox.events(), ["started"]);
    let done = held.sandbox.run(["stop", "db", "--force", "--json"]);
    assert_eq!(json(&done)["stopped"], true);
    assert_eq!(held.sandbox.events(), ["started", "stopping"]);
    let done = finish(held.holder);
    assert_eq!(done.code, Some(1), "{done:?}");
    let done = held.sandbox.run(["stop", "db", "--json"]);
    assert_eq!(
        done.code,
        Some(3),
        "no file and no record has the name: {done:?}"
    );
}

#[test]
fn wait_returns_when_the_service_is_ready_or_stopped() {
    let sandbox = Sandbox::new();
    let waiter = sandbox
        .procref([
            "wait",
            "db",
            "--allow-unknown",
            "--timeout",
            "60s",
            "--json",
        ])
        .spawn_piped();
    let holder = sandbox.hold();
    let report = json(&finish(waiter));
    assert_eq!(report["pid"], sandbox.events_with_pids()[0].1);
    // The service may be gone before the command looks up its name.
    let words = ["wait", "db", "--allow-unknown", "--stopped", "--json"];
    let waiter = sandbox.procref(words).spawn_piped();
    procref::process::terminate(holder.id());
    assert_eq!(json(&finish(waiter))["running"], false);
    finish(holder);
    let done = sandbox.run(["wait", "db", "--allow-unknown", "--timeout", "200ms"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    let done = sandbox.run(["wait", "db"]);
    assert_eq!(done.code, Some(3), "{done:?}");
}

#[test]
fn pinned_service_lives_without_clients_until_unpinned() {
    let sandbox = Sandbox::new();
    // `pin` has exited and its output has ended, although the service runs.
    let done = sandbox.run([
        "pin",
        "db",
        "--start",
        &service_command(),
        "--port",
        "auto",
        "--json",
    ]);
    let port = json(&done)["port"].as_u64().unwrap() as u16;
    query_pid(port).expect("an answer of the service");
    let status = json(&sandbox.run(["status", "db", "--json"]));
    assert_eq!(
        (&status["pinned"], &status["clients"]),
        (&true.into(), &0.into())
    );
    assert_eq!(
        json(&sandbox.run(["unpin", "db", "--json"]))["unpinned"],
        true
    );
    sandbox.wait_stopped();
    assert!(query_pid(port).is_err());
    assert_eq!(
        sandbox
            .events()
            .iter()
            .filter(|event| *event == "started")
            .count(),
        1
    );
}

#[test]
fn gc_removes_nothing_while_a_service_is_held() {
    let held = Held::new();
    let done = held.sandbox.run(["gc", "--json"]);
    assert_eq!(json(&done)["removed"].as_array().unwrap().len(), 0);
    assert_eq!(held.sandbox.events(), ["started"]);
    held.release();
}

#[test]
fn named_pipe_reports_readiness() {
    let sandbox = Sandbox::new();
    let name = format!("procref-test-{}", std::process::id());
    let mut command = sandbox.run_db();
    command.args([
        "--env",
        &pipe(&format!(r"\\.\pipe\{name}")),
        "--ready",
        &format!("pipe:{name}"),
    ]);
    let done = finish(command.args(["--", "cmd", "/c", "exit 4"]).spawn_piped());
    assert_eq!(done.code, Some(4), "{done:?}");
    assert_eq!(sandbox.events(), ["started", "connected", "stopping"]);
}
