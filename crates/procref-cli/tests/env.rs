//! `procref env` prints what `run` exports, in forms that real programs read.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::exports::{VALUES, assert_values, with_values};
use support::workspace::{Client, Project, Workspace};
use support::{PROCREF, create_gate, open_gate, output_text, path_text, stdout_of};

fn json(project: &Project<'_>, args: &[&str]) -> Value {
    serde_json::from_str(&project.output(args)).expect("JSON")
}

#[test]
fn env_prints_the_variables_that_run_exports() {
    let workspace = Workspace::new();
    let server = server::command();
    let config = format!(
        "[services.back]\nstart = \"{server} {{port}}\"\nexport = {{ BACK = 'x://{{port}}' }}\n\
         [services.front]\nstart = \"{server} {{port}}\"\ndepends-on = ['back']\n\
         export = {{ FRONT = '{{port}}-{{back.port}}' }}\n\
         [services.other]\nstart = \"{server} {{port}}\"\n"
    );
    let project = workspace.project("app", &config);
    let clients = [project.hold("front", ":"), project.hold("other", ":")];
    for names in [&["front"][..], &["front", "other"], &["back"]] {
        let client = [&["run"], names, &["--", "env", "-0"]].concat();
        let with: BTreeMap<String, String> = variables(&project.output(&client));
        let without = variables(&stdout_of(project.workspace.command("env").arg("-0")));
        let added = with
            .into_iter()
            .filter(|(name, value)| without.get(name) != Some(value));
        let added: BTreeMap<String, String> = added.collect();
        let printed = json(&project, &[&["env"], names, &["--format", "json"]].concat());
        assert_eq!(
            printed,
            serde_json::to_value(added).expect("JSON"),
            "{names:?}"
        );
    }
    clients.into_iter().for_each(Client::leave);
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let pairs = text
        .split_terminator('\0')
        .filter_map(|it| it.split_once('='));
    let pairs = pairs.filter(|(name, _)| *name != "_");
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn env_quotes_every_value_for_sh_and_bash() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &with_values(&VALUES));
    let client = project.hold("db", ":");
    for shell in ["sh", "bash"] {
        let read = format!("eval \"$({PROCREF} env db)\"");
        assert_values(&project, shell, &["-c"], &read);
    }
    client.leave();
}

#[test]
fn env_fails_for_names_and_values_that_a_format_cannot_express() {
    let workspace = Workspace::new();
    for (name, value, format) in [
        ("a-b", "x", "sh"),
        ("1A", "x", "fish"),
        ("A", "it's $x", "dotenv"),
        ("A", "x\\", "dotenv"),
    ] {
        let project = workspace.project("app", &with_values(&[(name, value)]));
        let client = project.hold("db", ":");
        let (code, stderr) = project.failure(&["env", "db", "--format", format]);
        assert_eq!(code, 1);
        assert!(stderr.contains(&format!("`{name}`")), "{stderr}");
        let printed = json(&project, &["env", "db", "--format", "json"]);
        assert_eq!(printed[name], value);
        client.leave();
        workspace.wait_no_leftovers();
    }
}

#[test]
fn env_exits_3_unless_service_and_dependencies_are_ready() {
    let workspace = Workspace::new();
    let gate = create_gate(workspace.path("gate"));
    let config = format!(
        "default = ['front']\n\
         [services.back]\nstart = 'sleep 600'\nready = 'started'\n\
         [services.front]\nstart = 'sleep 601'\nready = 'started'\ndepends-on = ['back']\n\
         [services.slow]\nstart = ['sh', '-c', 'read x <{}; echo ready; exec sleep 602']\nready = 'log:^ready'\n",
        path_text(&gate)
    );
    let project = workspace.project("app", &config);
    for (args, part) in [
        (&["env", "front"][..], "`back` is not running"),
        (&["env"], "`back` is not running"),
        (&["env", "bakc"], "did you mean `back`"),
    ] {
        let (code, stderr) = project.failure(args);
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let mut starter = project.procref(&["run", "slow", "--", "true"]);
    let mut starter = starter.spawn().expect("run procref");
    let stderr = procref_testkit::deadline::until("the service starts", || {
        let (code, stderr) = project.failure(&["env", "slow"]);
        assert_eq!(code, 3, "{stderr}");
        stderr.contains("it is starting").then_some(stderr)
    });
    assert!(stderr.contains("procref wait slow"), "{stderr}");
    open_gate(&gate);
    starter.wait().expect("wait for procref");

    let client = project.hold("front", "echo $PROCREF_PID; echo $PROCREF_PID_BACK");
    project.output(&["env"]);
    for pid in &client.printed {
        let process = support::live_process(pid);
        process.kill();
        process.wait_exit();
        let (code, stderr) = project.failure(&["env", "front"]);
        assert_eq!(code, 3, "{stderr}");
        // A client's status is still complete, and has no variables.
        let output = project.procref(&["status", "front", "--json"]).output();
        let text = output_text(&output.expect("run procref")).0;
        let status: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(status["env"], serde_json::json!({}));
    }
    client.kill();
    project.output(&["gc"]);
}

#[test]
fn each_json_about_a_service_has_its_variables() {
    let workspace = Workspace::new();
    let server = server::command();
    workspace.configure_user(&format!(
        "[services.back]\nstart = \"{server} {{port}}\"\nexport = {{ BACK = 'x://{{port}}' }}\n"
    ));
    let config = format!(
        "[services.front]\nstart = \"{server} {{port}}\"\ndepends-on = ['back']\n\
         export = {{ FRONT = '{{port}}-{{back.port}}' }}\n"
    );
    let project = workspace.project("app", &config);
    let pinned = json(&project, &["pin", "front", "--json"]);
    let expected = json(&project, &["env", "front", "--format", "json"]);
    let (front, back) = (&expected["PROCREF_PORT"], &expected["PROCREF_PORT_BACK"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    assert_eq!(expected["FRONT"], format!("{}-{}", text(front), text(back)));
    assert_eq!(expected["BACK"], format!("x://{}", text(back)));
    let status = json(&project, &["status", "front", "--json"]);
    let wait = json(&project, &["wait", "front", "--json"]);
    for described in [&pinned, &status, &wait] {
        assert_eq!(described["env"], expected);
        assert_eq!(described["generation"], 1);
    }
    for all in [&[][..], &["--all"]] {
        let listed = json(&project, &[&["ps", "--json"], all].concat());
        let services = listed["services"].as_array().expect("a list");
        let named = |name: &str| services.iter().find(|it| it["name"] == name);
        assert_eq!(named("front").expect("front is listed")["env"], expected);
        let alone = json(&project, &["env", "back", "--format", "json"]);
        assert_eq!(named("back").expect("back is listed")["env"], alone);
    }
    project.output(&["unpin", "front"]);
}

#[test]
fn status_json_names_the_project_as_ps_json_does() {
    let workspace = Workspace::new();
    workspace.configure_user("[services.mine]\nstart = 'sleep 600'\nready = 'started'\n");
    let project = workspace.project(
        "app",
        "[services.own]\nstart = 'sleep 600'\nready = 'started'\n",
    );
    let clients = [project.hold("own", ":"), project.hold("mine", ":")];
    let listed = json(&project, &["ps", "--json"]);
    for service in listed["services"].as_array().expect("a list") {
        let name = service["name"].as_str().expect("a name");
        let status = json(&project, &["status", name, "--json"]);
        assert_eq!(status["project"], service["project"], "{name}");
        assert_eq!(status["project"].is_null(), name == "mine");
    }
    clients.into_iter().for_each(Client::leave);
}
