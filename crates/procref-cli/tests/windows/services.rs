//! `ps`, `status`, `logs`, `stop`, `wait`, `pin`, `unpin` and `gc`.

use serde_json::Value;

use crate::sandbox::{Done, Piped as _, Running, Stage, ask, finish, line, pipe, service, words};

/// A service that somebody holds.
struct Held {
    stage: Stage,
    holder: Running,
}

impl Held {
    fn new() -> Self {
        let stage = Stage::new();
        let mut command = stage.procref(["hold", "db", "--start", &service(), "--port", "auto"]);
        let mut holder = command.args(["--env", &words("ready to serve")]).piped();
        line(&mut holder);
        Self { stage, holder }
    }

    fn let_go(self) -> (Stage, Done) {
        procref::process::terminate(self.holder.id());
        (self.stage, finish(self.holder))
    }
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn ps_and_status_list_the_service_and_its_holder() {
    let held = Held::new();
    let pid = held.stage.lives()[0].1;
    let listed = json(&held.stage.done(["ps", "--json"]));
    let service = &listed["services"][0];
    assert_eq!(listed["services"].as_array().unwrap().len(), 1);
    let status = json(&held.stage.done(["status", "db", "--json"]));
    for told in [service, &status] {
        assert_eq!(told["name"], "db");
        assert_eq!(told["state"], "ready");
        assert_eq!(told["pid"], pid);
        assert_eq!(told["clients"], 1);
        assert_eq!(told["holders"][0]["pid"], held.holder.id());
        assert_eq!(told["supervisor"], Value::Null);
        let object = told["kernel_object"].as_str().unwrap();
        assert!(object.starts_with(r"Local\procref-"), "{object}");
    }
    assert_eq!(
        u64::from(ask(status["port"].as_u64().unwrap() as u16).unwrap()),
        u64::from(pid)
    );
    for (words, expected) in [(["ps", "--all"], "db"), (["status", "db"], "ready")] {
        let done = held.stage.done(words);
        assert!(
            done.code == Some(0) && done.out.contains(expected),
            "{done:?}"
        );
    }
    let (stage, done) = held.let_go();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        json(&stage.done(["ps", "--json"]))["services"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(stage.done(["status", "db"]).code, Some(3));
}

#[test]
fn logs_print_output_and_follow_until_the_service_stops() {
    let held = Held::new();
    let done = held.stage.done(["logs", "db"]);
    assert!(
        done.code == Some(0) && done.out.contains("ready to serve"),
        "{done:?}"
    );
    let mut command = held
        .stage
        .procref(["logs", "db", "--follow", "--lines", "1"]);
    let mut follower = command.piped();
    assert_eq!(line(&mut follower).trim_end(), "ready to serve");
    held.let_go();
    let done = finish(follower);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn stop_refuses_a_held_service_unless_forced() {
    let held = Held::new();
    let done = held.stage.done(["stop", "db"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.err.contains(&held.holder.id().to_string()), "{done:?}");
    assert_eq!(held.stage.life(), ["started"]);
    let done = held.stage.done(["stop", "db", "--force", "--json"]);
    assert_eq!(json(&done)["stopped"], true);
    assert_eq!(held.stage.life(), ["started", "asked"]);
    let done = finish(held.holder);
    assert_eq!(done.code, Some(1), "{done:?}");
    let done = held.stage.done(["stop", "db", "--json"]);
    assert_eq!(
        done.code,
        Some(3),
        "no file and no record has the name: {done:?}"
    );
}

#[test]
fn wait_returns_when_the_service_is_ready_or_stopped() {
    let stage = Stage::new();
    let waiter = stage
        .procref([
            "wait",
            "db",
            "--allow-unknown",
            "--timeout",
            "60s",
            "--json",
        ])
        .piped();
    let mut command = stage.procref(["hold", "db", "--start", &service(), "--port", "auto"]);
    let mut holder = command.piped();
    line(&mut holder);
    let told = json(&finish(waiter));
    assert_eq!(told["pid"], stage.lives()[0].1);
    // The service may be gone before the command has looked for its name.
    let words = ["wait", "db", "--allow-unknown", "--stopped", "--json"];
    let waiter = stage.procref(words).piped();
    procref::process::terminate(holder.id());
    assert_eq!(json(&finish(waiter))["running"], false);
    finish(holder);
    let done = stage.done(["wait", "db", "--allow-unknown", "--timeout", "200ms"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    let done = stage.done(["wait", "db"]);
    assert_eq!(done.code, Some(3), "{done:?}");
}

#[test]
fn pinned_service_lives_without_clients_until_unpinned() {
    let stage = Stage::new();
    // It has ended, and with it whatever reads its output, although the service lives.
    let done = stage.done([
        "pin",
        "db",
        "--start",
        &service(),
        "--port",
        "auto",
        "--json",
    ]);
    let port = json(&done)["port"].as_u64().unwrap() as u16;
    assert!(ask(port).is_ok());
    let status = json(&stage.done(["status", "db", "--json"]));
    assert_eq!(
        (&status["pinned"], &status["clients"]),
        (&true.into(), &0.into())
    );
    assert_eq!(
        json(&stage.done(["unpin", "db", "--json"]))["unpinned"],
        true
    );
    let done = stage.done([
        "wait",
        "db",
        "--allow-unknown",
        "--stopped",
        "--timeout",
        "60s",
    ]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(ask(port).is_err());
    assert_eq!(
        stage
            .life()
            .iter()
            .filter(|word| *word == "started")
            .count(),
        1
    );
}

#[test]
fn gc_removes_nothing_while_a_service_is_held() {
    let held = Held::new();
    let done = held.stage.done(["gc", "--json"]);
    assert_eq!(json(&done)["removed"].as_array().unwrap().len(), 0);
    assert_eq!(held.stage.life(), ["started"]);
    held.let_go();
}

#[test]
fn named_pipe_reports_readiness() {
    let stage = Stage::new();
    let name = format!("procref-test-{}", std::process::id());
    let mut command = stage.procref(["run", "db", "--start", &service(), "--port", "auto"]);
    command.args([
        "--env",
        &pipe(&format!(r"\\.\pipe\{name}")),
        "--ready",
        &format!("pipe:{name}"),
    ]);
    let done = finish(command.args(["--", "cmd", "/c", "exit 4"]).piped());
    assert_eq!(done.code, Some(4), "{done:?}");
    assert_eq!(stage.life(), ["started", "connected", "asked"]);
}
