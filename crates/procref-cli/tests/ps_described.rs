//! `procref ps` lists the services that the project describes, whether they run or not.

#![cfg(target_os = "linux")]

mod support;

use serde_json::{Value, json};
use support::{
    output_text,
    workspace::{Project, Workspace},
};

const CONFIG: &str = "\
[services.db]
start = 'sleep 600'
ready = 'started'
[services.api]
start = 'sleep 600'
ready = 'started'
fingerprint = 'v1'
mismatch = 'separate'
[services.hub]
start = 'sleep 600'
ready = 'started'
shared = true
";

/// Returns name, state, and whether the file describes the service, of all listed services.
fn listed(project: &Project<'_>) -> Vec<Value> {
    let text = project.output(&["ps", "--json"]);
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    let services = listed["services"].as_array().expect("an array").iter();
    services
        .map(|it| json!([it["name"], it["state"], it["described"]]))
        .collect()
}

#[test]
fn ps_lists_described_services_that_do_not_run() {
    let workspace = Workspace::new();
    let project = workspace.project("app", CONFIG);
    let absent = |name: &str| json!([name, "absent", true]);
    // Shared services run in the common runtime directory, which comes first.
    assert_eq!(
        listed(&project),
        [absent("hub"), absent("api"), absent("db")]
    );
    let table = project.output(&["ps"]);
    let row = table.lines().nth(3).expect("a third service");
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..4], ["db", "absent", "0", "-"]);

    project.output(&["pin", "db"]);
    project.output(&["pin", "api"]);
    project.output(&["pin", "tools", "--start", "sleep 600", "--ready", "started"]);
    let expected = [
        absent("hub"),
        json!(["tools", "ready", false]),
        json!(["api", "ready", true]),
        json!(["db", "ready", true]),
    ];
    assert_eq!(listed(&project), expected);
    let status: Value =
        serde_json::from_str(&project.output(&["status", "db", "--json"])).expect("JSON");
    assert_eq!(status["described"], true);
    // Another directory lists only what runs.
    let other = workspace.empty_project("other");
    assert_eq!(listed(&other), [json!(["tools", "ready", false])]);
    project.output(&["stop", "--all"]);
    project.output(&["stop", "tools"]);
}

#[test]
fn ps_lists_running_services_if_the_file_is_invalid() {
    let workspace = Workspace::new();
    let project = workspace.project("app", CONFIG);
    project.output(&["pin", "db"]);
    project.configure("[services.db]\nstrat = 'x'\n");
    let output = project.procref(&["ps"]).output().expect("run procref");
    let (out, err) = output_text(&output);
    assert!(output.status.success(), "{err}");
    assert!(out.contains("\ndb "), "{out}");
    assert_eq!(err.matches("unknown key `strat`").count(), 1, "{err}");
    project.configure(CONFIG);
    project.output(&["stop", "db"]);
}
