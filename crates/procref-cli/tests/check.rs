//! `procref check`, and the JSON schema of `procref.toml`.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::workspace::{Project, Workspace};

fn json(project: &Project<'_>) -> (Option<i32>, Value) {
    let output = project.procref(&["check", "--json"]).output();
    let output = output.expect("run procref");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    (
        output.status.code(),
        serde_json::from_str(&text).expect("JSON"),
    )
}

#[test]
fn check_finds_the_programs_of_each_service() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.a]\nstart = 'sh -c x {port}'\ninit = './prepare'\ndata = 'd'\nready = 'cmd:no-such-probe'\n\
         [services.b]\nstart = 'own-server'\nready = 'started'\npath = ['bin*']\ndepends-on = ['a']\n",
    );
    let file = project.dir.join("procref.toml");
    let missing = project.procref(&["check"]).output().expect("run procref");
    assert_eq!(missing.status.code(), Some(1));
    let (code, found) = json(&project);
    assert_eq!(code, Some(1));
    assert_eq!(found["services"][0]["programs"][1]["path"], Value::Null);
    let text = String::from_utf8(missing.stderr).expect("UTF-8");
    assert!(text.contains("3 programs not found"), "{text}");

    fs::create_dir(project.dir.join("bin1")).expect("create a directory");
    for program in ["prepare", "bin1/own-server"] {
        let program = project.dir.join(program);
        fs::write(&program, "#!/bin/sh\n").expect("write a program");
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&program, mode).expect("chmod");
    }
    // A file that cannot be executed is not a program.
    fs::write(project.dir.join("bin1/no-such-probe"), "").expect("write a file");
    let config = fs::read_to_string(&file).expect("read procref.toml");
    project.configure(&config.replace("data = 'd'", "data = 'd'\npath = ['bin*']"));
    let (code, found) = json(&project);
    assert_eq!(code, Some(1));
    let programs = |service: usize| found["services"][service]["programs"].clone();
    assert_eq!(found["files"], json!([file]));
    assert_eq!(found["errors"], json!([]));
    assert_eq!(found["services"][1]["name"], "b");
    assert_eq!(programs(0)[0]["name"], "sh");
    let shell = programs(0)[0]["path"].as_str().map(str::to_owned);
    assert!(shell.is_some_and(|path| path.ends_with("/sh")));
    assert_eq!(
        programs(0)[1],
        json!({ "key": "init", "name": project.dir.join("prepare"), "path": project.dir.join("prepare") })
    );
    assert_eq!(
        programs(0)[2],
        json!({ "key": "ready", "name": "no-such-probe", "path": null })
    );
    assert_eq!(
        programs(1)[0]["path"],
        json!(project.dir.join("bin1/own-server"))
    );

    project.configure(&config.replace("ready = 'cmd:no-such-probe'\n", ""));
    let listed = project.output(&["check"]);
    assert!(listed.contains("\nb  "), "{listed}");
    assert_eq!(json(&project).0, Some(0));
}

#[test]
fn check_reports_each_mistake_with_its_place() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.a]\nstrat = 'x'\ngrace = 5\n");
    let file = project.dir.join("procref.toml");
    let (code, found) = json(&project);
    assert_eq!(code, Some(2));
    assert_eq!(
        found["errors"][0],
        json!({
            "file": file,
            "line": 2,
            "column": 1,
            "message": "service `a`: unknown key `strat`; did you mean `start`?",
        })
    );
    assert_eq!(found["errors"].as_array().map(Vec::len), Some(2));
    let (code, stderr) = project.failure(&["check"]);
    assert_eq!(code, 2);
    assert!(stderr.contains(":3:9: service `a`: `grace`"), "{stderr}");
    let cycle = "[services.a]\nstart = 'x'\ndepends-on = ['b']\n[services.b]\nstart = 'x'\ndepends-on = ['a']\n";
    project.configure(cycle);
    let (code, found) = json(&project);
    assert_eq!(code, Some(2));
    let message = found["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("cycle: a -> b -> a"), "{found}");
}

#[test]
fn check_without_a_file_is_an_error() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let (code, stderr) = project.failure(&["check"]);
    assert_eq!(code, 2);
    let expected = format!(
        "there is no procref.toml in {} or above it",
        project.dir.display()
    );
    assert!(stderr.contains(&expected), "{stderr}");
    project.configure("");
    project.output(&["check"]);
}

#[test]
fn check_creates_no_runtime_directory() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.a]\nstart = 'sh'\nready = 'started'\n");
    project.output(&["check"]);
    assert!(!workspace.runtime_dir().exists());
}

#[test]
fn published_schema_equals_the_printed_one() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let printed = project.output(&["check", "--schema"]);
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/procref.schema.json"
    );
    let published = fs::read_to_string(path).expect("read the schema");
    assert_eq!(
        printed, published,
        "run `procref check --schema >docs/procref.schema.json`"
    );
}

#[test]
fn check_warns_about_misspelled_placeholders() {
    let workspace = Workspace::new();
    let start = r#"[services.a]
start = ['sh', '-c', 'x {prot}', '{"x": {}}', '{nothing}', '${PORT} {{port}} {{prot}} %{port_x}', '{port}']
"#;
    let dependent = "[services.b]\nstart = 'sh {a.prt} {c.port}'\ndepends-on = 'a'\n";
    let project = workspace.project("app", &format!("{start}{dependent}"));
    let (code, found) = json(&project);
    assert_eq!(code, Some(0), "unknown names in braces are valid: {found}");
    let warnings = |service: usize| found["services"][service]["warnings"].clone();
    let message = |place: &str, reason: &str| {
        json!(format!(
            "`start`: `{{{place}}}` is not a placeholder, and stays as it is; {reason}"
        ))
    };
    assert_eq!(
        warnings(0),
        json!([message("prot", "did you mean `{port}`?")])
    );
    let expected = [
        message("a.prt", "did you mean `{a.port}`?"),
        message("c.port", "there is no service `c`; available: `a` and `b`"),
    ];
    assert_eq!(warnings(1), json!(expected));
    let output = project.procref(&["check"]).output().expect("run procref");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        text.contains("warning: service `a`: `start`: `{prot}`"),
        "{text}"
    );
}

#[test]
fn check_reports_a_user_that_does_not_exist() {
    let workspace = Workspace::new();
    let service = |user: &str| format!("[services.a]\nstart = 'sh'\nuser = '{user}'\n");
    let project = workspace.project("app", &service("no-such-user-here"));
    // For another user than root, the setting has no effect.
    let is_root = rustix::process::geteuid().is_root();
    let (code, found) = json(&project);
    assert_eq!(code, Some(i32::from(is_root)), "{found}");
    let user = json!({ "name": "no-such-user-here", "exists": false });
    assert_eq!(found["services"][0]["user"], user);
    let output = project.procref(&["check"]).output().expect("run procref");
    assert_eq!(output.status.code(), Some(i32::from(is_root)));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let expected = "service `a`: `user`: there is no user `no-such-user-here`";
    assert!(text.contains(expected), "{text}");
    project.configure(&service("root"));
    let (code, found) = json(&project);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(found["services"][0]["user"]["exists"], json!(true));
}
