//! `procref stop` of several services, and `procref restart`.

#![cfg(target_os = "linux")]

mod support;

use procref_testkit::observe::Identity;
use serde_json::{Value, json};
use support::{
    live_process, output_text,
    sandbox::Running,
    workspace::{Project, Workspace},
};

const DEPENDENT: &str = "\
[services.db]
start = 'sleep 600'
ready = 'started'
[services.web]
start = 'sleep 600'
ready = 'started'
depends-on = ['db']
";

fn json(project: &Project<'_>, args: &[&str]) -> Value {
    serde_json::from_str(&project.output(args)).expect("JSON")
}

/// Returns the status of a service that runs, and its process.
#[track_caller]
fn running(project: &Project<'_>, name: &str) -> (Value, Identity) {
    let status = json(project, &["status", name, "--json"]);
    let process = live_process(&status["pid"].to_string());
    (status, process)
}

fn is_running(project: &Project<'_>, name: &str) -> bool {
    let status = project.procref(&["status", name]).output();
    status.expect("run procref").status.success()
}

#[test]
fn stop_of_several_stops_dependents_before_dependencies() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    project.output(&["pin", "web"]);
    let (code, stderr) = project.failure(&["stop", "db"]);
    assert_eq!(code, 4, "the process of `web` holds `db`: {stderr}");
    let stop = ["stop", "db", "web", "db", "--json"];
    let stopped = json(&project, &stop);
    let names = stopped["services"].as_array().expect("an array");
    let names: Vec<&Value> = names.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["web", "db"]);
    assert_eq!(
        stopped["services"][0],
        json!({ "name": "web", "stopped": true, "error": null })
    );
    assert!(!is_running(&project, "db") && !is_running(&project, "web"));
}

#[test]
fn stop_of_several_reports_each_failure_and_stops_the_others() {
    let workspace = Workspace::new();
    let config = format!("{DEPENDENT}[services.cache]\nstart = 'sleep 600'\nready = 'started'\n");
    let project = workspace.project("app", &config);
    let client = project.hold("db", ":");
    project.output(&["pin", "cache"]);
    let output = project.procref(&["stop", "db", "cache", "--json"]).output();
    let output = output.expect("run procref");
    assert_eq!(output.status.code(), Some(4));
    let (out, err) = output_text(&output);
    assert!(err.contains("use --force"), "{err}");
    let stopped: Value = serde_json::from_str(&out).expect("JSON");
    let of = |name: &str| {
        let mut services = stopped["services"].as_array().expect("an array").iter();
        services.find(|it| it["name"] == name).expect(name)
    };
    assert_eq!(of("cache")["stopped"], true);
    assert_eq!(of("db")["stopped"], false);
    let reason = of("db")["error"].as_str().expect("an error");
    assert!(reason.contains("service `db`"), "{reason}");
    let unknown = ["stop", "no-such-service", "db", "--force", "--json"];
    let output = project.procref(&unknown).output().expect("run procref");
    assert_eq!(output.status.code(), Some(3));
    let (out, err) = output_text(&output);
    assert!(err.contains("no service `no-such-service` in"), "{err}");
    let stopped: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        stopped["services"][0],
        json!({ "name": "db", "stopped": true, "error": null })
    );
    assert_eq!(stopped["services"][1]["name"], "no-such-service");
    assert_eq!(stopped["services"][1]["stopped"], false);
    assert!(stopped["services"][1]["error"].is_string(), "{stopped}");
    assert!(!is_running(&project, "db"));
    client.leave();
}

#[test]
fn status_of_several_reports_unknown_names_and_shows_the_others() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    project.output(&["pin", "web"]);
    let both = project.output(&["status", "web", "db"]);
    let names: Vec<&str> = both
        .lines()
        .filter_map(|line| line.strip_prefix("service:"))
        .map(str::trim)
        .collect();
    assert_eq!(names, ["web", "db"]);
    let status = ["status", "no-such-service", "db", "--json"];
    let output = project.procref(&status).output().expect("run procref");
    assert_eq!(output.status.code(), Some(3));
    let (out, err) = output_text(&output);
    assert!(err.contains("`no-such-service`"), "{err}");
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed["services"][0]["state"], "absent");
    assert_eq!(listed["services"][1]["state"], "ready");
    project.output(&["stop", "--all"]);
}

/// While `stop` waits for the process, it holds a reference. It is not a client.
#[test]
fn stop_is_not_a_client_while_it_waits() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.db]\nstart = \"sh -c 'trap : TERM; echo up; while :; do sleep 600 & wait; done'\"\n\
         ready = 'log:up'\ngrace = '5s'\n",
    );
    project.output(&["pin", "db"]);
    let mut stop = project
        .procref(&["stop", "db"])
        .spawn()
        .expect("run procref");
    let stopping = procref_testkit::deadline::until("the service is being stopped", || {
        let status = project.procref(&["status", "db", "--json"]).output();
        let (out, _) = output_text(&status.expect("run procref"));
        let status: Value = serde_json::from_str(&out).expect("JSON");
        (status["state"] == "stopping").then_some(status)
    });
    assert_eq!(stopping["clients"], 0, "{stopping}");
    assert_eq!(stopping["holders"], json!([]), "{stopping}");
    assert_eq!(stopping["transition"], stop.id());
    let listed = project.output(&["ps"]);
    let row = listed.lines().find(|line| line.starts_with("db"));
    let columns: Vec<&str> = row.expect("a row").split_whitespace().collect();
    assert_eq!(
        columns[..5],
        ["db", "stopping", "by", &stop.id().to_string(), "0"]
    );
    assert!(stop.wait().expect("wait for procref").success());
}

#[test]
fn stop_all_stops_the_services_of_the_project_only() {
    let workspace = Workspace::new();
    let shared = "[services.shared]\nstart = 'sleep 600'\nready = 'started'\nshared = true\n";
    let separate = "[services.old]\nstart = 'sleep 600'\nready = 'started'\n\
                    fingerprint = 'v1'\nmismatch = 'separate'\n";
    let project = workspace.project("app", &format!("{DEPENDENT}{shared}{separate}"));
    let other = workspace.project("other", DEPENDENT);
    for name in ["web", "shared", "old"] {
        project.output(&["pin", name]);
    }
    other.output(&["pin", "db"]);
    // `old` is stopped although the file does not describe it any more.
    let old = running(&project, "old").1;
    project.configure(&format!("{DEPENDENT}{shared}"));
    let stopped = json(&project, &["stop", "--all", "--json"]);
    let names = stopped["services"].as_array().expect("an array");
    assert_eq!(names.len(), 3, "{stopped}");
    // `db` may stop by itself before its turn, because `web` was its last client.
    assert!(
        names.iter().all(|it| it["error"] == Value::Null),
        "{stopped}"
    );
    assert!(!old.is_live());
    assert!(!is_running(&project, "web") && !is_running(&project, "db"));
    assert!(is_running(&project, "shared") && is_running(&other, "db"));
    let (_, note) = output_text(
        &project
            .procref(&["stop", "--all"])
            .output()
            .expect("run procref"),
    );
    assert_eq!(note, "no service of this project is running\n");
    let outside = workspace.empty_project("outside");
    let (code, stderr) = outside.failure(&["stop", "--all"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("there is no procref.toml in"), "{stderr}");
    assert!(is_running(&project, "shared"));
    outside.output(&["--no-config", "stop", "--all"]);
    assert!(!is_running(&project, "shared"));
    other.output(&["stop", "--all"]);
}

#[test]
fn restart_gives_the_clients_another_instance() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    let client = project.hold("db", ":");
    let (_, before) = running(&project, "db");
    let (code, stderr) = project.failure(&["restart", "db"]);
    assert_eq!(code, 4);
    assert!(stderr.contains("use --force"), "{stderr}");
    assert!(before.is_live());

    let restarted = json(&project, &["restart", "db", "--force", "--json"]);
    assert!(!before.is_live());
    let (status, after) = running(&project, "db");
    assert_eq!(restarted["pid"], status["pid"]);
    assert_eq!(status["clients"], 1);
    assert_eq!(status["holders"][0]["pid"], client.child.id());
    client.leave();
    project.output(&["wait", "db", "--stopped", "--timeout", "60s"]);
    assert!(!after.is_live(), "the last client stops the instance");
}

#[test]
fn restart_keeps_the_pin_and_uses_the_present_file() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    project.output(&["pin", "web"]);
    let (_, before) = running(&project, "web");
    let (_, dependency) = running(&project, "db");
    project.configure(&DEPENDENT.replace("sleep 600", "sleep 700"));
    let restarted = json(&project, &["restart", "db", "web", "--json"]);
    assert_eq!(restarted["services"].as_array().map(Vec::len), Some(2));
    assert!(!before.is_live() && !dependency.is_live());
    for name in ["web", "db"] {
        let (status, _) = running(&project, name);
        assert_eq!(status["command"], json!(["sleep", "700"]), "{name}");
        assert_eq!(status["pinned"], name == "web", "{name}");
    }
    project.output(&["stop", "--all"]);
}

/// Without a client, `db` would stop again before `web` starts, and start a second time for `web`.
#[test]
fn restart_starts_a_dependency_once_and_reports_its_running_instance() {
    let workspace = Workspace::new();
    let counted = DEPENDENT.replacen(
        "'sleep 600'",
        "\"sh -c 'echo x >>starts; exec sleep 600'\"",
        1,
    );
    let project = workspace.project("app", &counted);
    project.output(&["pin", "web"]);
    let starts = || std::fs::read_to_string(project.dir.join("starts")).expect("read a file");
    assert_eq!(starts(), "x\n");
    let restarted = json(&project, &["restart", "db", "web", "--json"]);
    assert_eq!(starts(), "x\nx\n");
    let listed = restarted["services"].as_array().expect("an array");
    for it in listed {
        let (status, _) = running(&project, it["name"].as_str().expect("a name"));
        assert_eq!(status["pid"], it["pid"], "{it}");
    }
    project.output(&["stop", "--all"]);
}

/// Returns the line that `hold` prints next, as JSON.
#[track_caller]
fn held(hold: &Running) -> Value {
    serde_json::from_str(&hold.line()).expect("JSON")
}

#[test]
fn hold_continues_with_the_instance_of_a_restart() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    let mut hold = Running::new(&mut project.procref(&["hold", "web", "--json", "--stdin"]));
    let before = held(&hold);
    for names in [&["web"][..], &["db", "web"]] {
        project.output(&[&["restart", "--force"], names].concat());
        let after = held(&hold);
        assert_ne!(after["pid"], before["pid"]);
        let (status, _) = running(&project, "web");
        for key in ["pid", "generation", "env"] {
            assert_eq!(after[key], status[key], "{names:?}: {key}");
        }
        assert_eq!(status["holders"][0]["pid"], hold.child.id(), "{names:?}");
    }
    hold.send("input\n");
    assert_eq!(hold.close_stdin_and_wait().code(), Some(0));
    project.output(&["wait", "web", "--stopped", "--timeout", "60s"]);
}

#[test]
fn hold_ends_when_its_service_is_stopped_or_dies() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    for how in ["stop", "kill"] {
        let mut hold = Running::new(&mut project.procref(&["hold", "db"]));
        hold.line();
        match how {
            "stop" => drop(project.output(&["stop", "db", "--force"])),
            _ => running(&project, "db").1.kill(),
        }
        assert_eq!(hold.wait().code(), Some(1), "{how}");
    }
}

#[test]
fn restart_of_a_service_that_cannot_be_restarted_is_an_error() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DEPENDENT);
    let (code, stderr) = project.failure(&["restart", "db"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("is not running")
            && stderr.contains("`procref run db -- COMMAND` starts it"),
        "{stderr}"
    );
    project.output(&["pin", "tools", "--start", "sleep 600", "--ready", "started"]);
    let (_, tools) = running(&project, "tools");
    let (code, stderr) = project.failure(&["restart", "tools"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("is in no file"), "{stderr}");
    assert!(tools.is_live());
    // All services are checked before one is stopped.
    project.output(&["pin", "db"]);
    let (_, db) = running(&project, "db");
    project.failure(&["restart", "db", "tools"]);
    project.failure(&["restart", "db", "no-such-service"]);
    assert!(db.is_live());
    project.output(&["stop", "db", "tools"]);
}
