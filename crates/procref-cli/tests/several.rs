//! `procref run` with several services: acquired side by side, all or none of them.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::fs;
use std::process::Stdio;

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::workspace::{Project, Workspace};
use support::{PROCREF, create_gate, live_process, open_gate, output_text, path_text};

/// Two services, each of which is ready only when the process of the other one runs, too.
const MUTUAL: &str = r#"
[services.one]
start = ["sh", "-c", "touch one-begun; until test -e two-begun; do sleep 0.01; done; echo ready; exec sleep 3600"]
ready = "log:^ready"
export = { ONE = "1", SAME = "the same" }

[services.two]
start = ["sh", "-c", "touch two-begun; until test -e one-begun; do sleep 0.01; done; echo ready; exec sleep 3600"]
ready = "log:^ready"
export = { TWO = "2", SAME = "the same" }
"#;

fn clients(project: &Project<'_>, service: &str) -> u64 {
    let output = project.procref(&["status", service, "--json"]).output();
    let text = output_text(&output.expect("run procref")).0;
    let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    status["clients"].as_u64().expect("a number")
}

/// Runs `procref run` with these names and a script, and returns what the script prints.
fn run(project: &Project<'_>, names: &[&str], script: &str) -> String {
    let words = [&["run"], names, &["--", "sh", "-c", script]].concat();
    project.output(&words)
}

#[test]
fn services_start_side_by_side_and_export_their_variables() {
    let workspace = Workspace::new();
    let project = workspace.project("app", MUTUAL);
    let script = r#"echo "$ONE $TWO $SAME"; echo "$PROCREF_PID_ONE $PROCREF_PID_TWO"
                    echo "${PROCREF_NAME-unset} ${PROCREF_PID-unset} ${PROCREF_DIR-unset}""#;
    let printed = run(&project, &["one", "two"], script);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "1 2 the same");
    let pids: Vec<u32> = lines[1].split(' ').flat_map(str::parse).collect();
    assert_eq!(pids.len(), 2);
    assert_ne!(pids[0], pids[1]);
    assert_eq!(lines[2], "unset unset unset");
}

#[test]
fn g2_client_of_several_services_is_one_process_and_holds_all() {
    let workspace = Workspace::new();
    let project = workspace.project("app", MUTUAL);
    let mut child = project
        .procref(&[
            "run",
            "one",
            "two",
            "one",
            "--",
            "sh",
            "-c",
            "echo $$; read -r line",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run procref");
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut lines, &mut line).expect("a line");
    assert_eq!(line.trim(), child.id().to_string());
    let mut services = Vec::new();
    for name in ["one", "two"] {
        let status: serde_json::Value =
            serde_json::from_str(&project.output(&["status", name, "--json"])).expect("JSON");
        assert_eq!(status["clients"], 1, "a repeated name counts once");
        assert_eq!(status["holders"][0]["pid"], child.id());
        services.push(live_process(&status["pid"].to_string()));
    }
    child.kill().expect("kill the client");
    child.wait().expect("wait for the client");
    services.into_iter().for_each(Identity::wait_exit);
}

#[test]
fn dependencies_of_several_services_are_acquired_first_and_once() {
    let workspace = Workspace::new();
    let config = "
[services.front]
start = ['sh', '-c', 'echo front >>order; echo ready; exec sleep 600']
ready = 'log:^ready'
depends-on = ['back']
export = { URL = 'front' }

[services.back]
start = ['sh', '-c', 'echo begun >>order; sleep 0.3; echo back >>order; echo ready; exec sleep 600']
ready = 'log:^ready'
export = { URL = 'back' }
";
    let project = workspace.project("app", config);
    assert_eq!(run(&project, &["front", "back"], "echo $URL"), "front\n");
    let order = fs::read_to_string(project.dir.join("order")).expect("read a file");
    assert_eq!(order, "begun\nback\nfront\n");
}

#[test]
fn failed_service_releases_the_others_and_is_named() {
    let workspace = Workspace::new();
    let dir = workspace.path("app");
    let config = format!(
        "{MUTUAL}
[services.slow]
start = ['sh', '-c', 'echo $$ >slow; read x <{}; exec sleep 600']
ready = 'log:never'

[services.broken]
start = ['sh', '-c', 'until test -s slow; do sleep 0.01; done; echo I cannot; exit 3']
ready = 'log:never'
",
        path_text(&dir.join("gate"))
    );
    let project = workspace.project("app", &config);
    create_gate(dir.join("gate"));
    let names = ["run", "one", "two", "slow", "broken", "--", "true"];
    let (code, stderr) = project.failure(&names);
    assert_eq!(code, 125);
    assert!(stderr.contains("service `broken`"), "{stderr}");
    assert!(stderr.contains("I cannot"), "{stderr}");
    assert!(!stderr.contains("`slow`"), "{stderr}");
    workspace.wait_no_leftovers();
    let slow = fs::read_to_string(dir.join("slow")).expect("read a file");
    assert_eq!(Identity::of(slow.trim().parse().expect("a pid")), None);
}

#[test]
fn signal_while_several_services_start_leaves_nothing() {
    let workspace = Workspace::new();
    let config = "
[services.fast]
start = ['sh', '-c', 'echo $$ >fast; echo ready; exec sleep 600']
ready = 'log:^ready'

[services.slow]
start = ['sh', '-c', 'echo $$ >slow; exec sleep 600']
ready = 'log:never'
";
    let project = workspace.project("app", config);
    // A test that runs in the background of a script inherits an ignored SIGINT.
    let mut command = workspace.command("env");
    command
        .current_dir(&project.dir)
        .arg("--default-signal=INT");
    command.args([PROCREF, "run", "fast", "slow", "--", "true"]);
    let mut child = command.spawn().expect("run procref");
    let process = |name: &str| {
        deadline::until("the service's process runs", || {
            let text = fs::read_to_string(project.dir.join(name)).ok()?;
            Identity::of(text.trim().parse().ok()?)
        })
    };
    let services = ["fast", "slow"].map(process);
    deadline::until_true("one of the services is ready", || {
        clients(&project, "fast") == 1
    });
    Identity::of(child.id()).expect("alive").signal(Signal::INT);
    child.wait().expect("wait for procref");
    services.into_iter().for_each(Identity::wait_exit);
    workspace.wait_no_leftovers();
}

#[test]
fn nested_runs_keep_outer_variables_and_hold_all_services() {
    let workspace = Workspace::new();
    let project = workspace.project("app", MUTUAL);
    let inner = format!(
        r#"{PROCREF} run one two -- sh -c 'echo "$ONE $TWO $PROCREF_PID_OUTER ${{PROCREF_NAME-unset}}"'"#
    );
    let printed = run(
        &project,
        &["outer", "--start", "sleep 600", "--ready", "started"],
        &format!("echo $PROCREF_PID; {inner}; {PROCREF} run one -- sh -c 'echo $PROCREF_NAME'"),
    );
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[1], format!("1 2 {} unset", lines[0]));
    assert_eq!(lines[2], "one");
}

#[test]
fn default_services_are_used_without_names() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &format!("default = ['one', 'two']\n{MUTUAL}"));
    assert_eq!(run(&project, &[], "echo $ONE$TWO"), "12\n");
    project.configure(&format!("default = 'one'\n{MUTUAL}"));
    fs::write(project.dir.join("two-begun"), "").expect("write a file");
    assert_eq!(run(&project, &[], "echo $ONE$TWO$PROCREF_NAME"), "1one\n");

    for (default, parts) in [
        (
            "default = ['one', 'twp']\n",
            &["`twp`", "did you mean `two`"][..],
        ),
        ("default = []\n", &["`default` must be a list"]),
        ("default = [1]\n", &["`default` must be a list"]),
        ("", &["names no service", "default = ["]),
    ] {
        project.configure(&format!("{default}{MUTUAL}"));
        let (code, stderr) = project.failure(&["run", "--", "true"]);
        assert_eq!(code, 125);
        for part in parts {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
}

#[test]
fn default_of_user_file_applies_if_project_has_none() {
    let workspace = Workspace::new();
    let mine = "[services.mine]\nstart = 'sleep 600'\nready = 'started'\n";
    workspace.configure_user(&format!("default = ['mine']\n{mine}"));
    let project = workspace.project("app", MUTUAL);
    assert_eq!(run(&project, &[], "echo $PROCREF_NAME"), "mine\n");
    project.configure(&format!("default = ['one', 'two']\n{MUTUAL}"));
    assert_eq!(run(&project, &[], "echo $ONE$TWO"), "12\n");
}

#[test]
fn unknown_name_among_several_is_reported_before_any_start() {
    let workspace = Workspace::new();
    let project = workspace.project("app", MUTUAL);
    let (code, stderr) = project.failure(&["run", "one", "twoo", "--", "true"]);
    assert_eq!(code, 125);
    for part in ["`twoo`", "did you mean `two`"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let words = ["run", "one", "two", "--linger", "1s", "--", "true"];
    let (code, stderr) = project.failure(&words);
    assert_eq!(code, 125);
    assert!(
        stderr.contains("--linger describes one service"),
        "{stderr}"
    );
    assert!(!project.dir.join("one-begun").exists());
}

#[test]
fn variable_of_two_unrelated_services_is_an_error_before_any_start() {
    let workspace = Workspace::new();
    let config = "
[services.pg]
start = 'sleep 600'
ready = 'started'
depends-on = ['base']
export = { DATABASE_URL = 'pg' }

[services.mysql]
start = 'sleep 600'
ready = 'started'
export = { DATABASE_URL = 'mysql' }

[services.base]
start = 'sleep 600'
ready = 'started'
export = { DATABASE_URL = 'base' }

[services.my-db]
start = 'sleep 600'
ready = 'started'
export = { DIR = '{dir}' }

[services.my_db]
start = 'sleep 600'
ready = 'started'

[services.other]
start = 'sleep 600'
ready = 'started'
export = { DIR = '{dir}' }
";
    let project = workspace.project("app", config);
    let fails = |names: &[&str], variable: &str| {
        let words = [&["run"], names, &["--", "true"]].concat();
        let (code, stderr) = project.failure(&words);
        assert_eq!(code, 125);
        for part in names.iter().copied().chain([variable]) {
            assert!(stderr.contains(&format!("`{part}`")), "{part}: {stderr}");
        }
    };
    fails(&["pg", "mysql"], "DATABASE_URL");
    fails(&["my-db", "my_db"], "PROCREF_PID_MY_DB");
    fails(&["my-db", "other"], "DIR");
    let listed = project.output(&["ps", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    for service in listed["services"].as_array().expect("services") {
        assert_eq!(service["state"], "absent", "nothing was started: {service}");
    }
    // The export of a dependent replaces that of its dependency.
    for names in [&["pg"][..], &["base", "pg"], &["pg", "base"]] {
        assert_eq!(run(&project, names, "echo $DATABASE_URL"), "pg\n");
    }
}

#[test]
fn placeholder_without_a_name_is_an_error_for_several_services() {
    let workspace = Workspace::new();
    let server = server::command();
    let service = |name: &str| format!("[services.'{name}']\nstart = \"{server} {{port}}\"\n");
    let project = workspace.project("app", &[service("a"), service("b.c")].concat());
    for fill in [&[][..], &["--fill"]] {
        let words = [
            &["run", "a", "b.c"],
            fill,
            &["--", "echo", "localhost:{port}"],
        ]
        .concat();
        let (code, stderr) = project.failure(&words);
        assert_eq!(code, 125);
        for part in ["`{a.port}`", "`{b.c.port}`"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
    let script = r#"echo "$0 $1 = $PROCREF_PORT_A $PROCREF_PORT_B_C""#;
    let words = [
        "run",
        "a",
        "b.c",
        "--",
        "sh",
        "-c",
        script,
        "{a.port}",
        "{b.c.port}",
    ];
    let printed = project.output(&words);
    let (filled, variables) = printed.trim().split_once(" = ").expect("two parts");
    assert_eq!(filled, variables);
}

#[test]
fn watched_client_holds_several_services_until_they_have_stopped() {
    let workspace = Workspace::new();
    let project = workspace.project("app", MUTUAL);
    let gate = create_gate(project.dir.join("gate"));
    let script = format!("echo $ONE$TWO >printed; read x <{}", path_text(&gate));
    let options = ["run", "one", "two", "--watch-client", "--wait-stopped"];
    let words = [&options[..], &["--", "sh", "-c", &script]].concat();
    let mut child = project.procref(&words).spawn().expect("run procref");
    deadline::until_true("the client runs", || {
        fs::read_to_string(project.dir.join("printed")).is_ok_and(|text| text == "12\n")
    });
    assert_eq!(clients(&project, "one"), 2, "procref and its client");
    open_gate(&gate);
    assert!(child.wait().expect("wait for procref").success());
    assert_eq!(workspace.leftovers(), [""; 0].map(std::path::PathBuf::from));
}
