//! A service that binds port 0, and sends its port and metadata by `sd_notify`.

#![cfg(target_os = "linux")]

mod server;
mod support;

use support::sandbox::{Finished, Sandbox, finish};
use support::workspace::Workspace;

/// Returns the options of a service that binds port 0 and sends these lines.
fn notifying(lines: &str) -> Vec<String> {
    let start = format!("{} 0", server::command());
    let env = format!("{}={lines}", server::NOTIFY_LINES);
    let options = ["--start", &start, "--ready", "notify", "--env", &env];
    options.map(str::to_owned).to_vec()
}

/// Runs a client of the service.
fn run(sandbox: &Sandbox, options: &[String], client: &[&str]) -> Finished {
    let mut command = sandbox.procref("web");
    command.args(["run", "web"]).args(options).arg("--");
    finish(command.args(client))
}

#[test]
fn port_and_metadata_of_a_notification_reach_clients_and_reports() {
    let sandbox = Sandbox::new();
    let options = notifying("PROCREF_META_token=se cret\nPROCREF_META_role=main");
    let holder = sandbox.hold("web", &options);
    let status = sandbox.json("web", &["status", "web", "--json"]);
    let port = status["port"].as_u64().expect("a port").to_string();
    assert_eq!(status["metadata"]["token"], "se cret");
    assert_eq!(status["env"]["PROCREF_PORT"], *port);
    let env = sandbox.stdout("web", &["env", "web"]);
    assert!(env.contains(&format!("PROCREF_PORT='{port}'")), "{env}");
    assert!(env.contains("PROCREF_META_TOKEN='se cret'"), "{env}");

    // This client joins the service.
    let request = server::request("ping", "PROCREF_PORT");
    let script = format!("{request}; echo $PROCREF_META_TOKEN $PROCREF_META_ROLE");
    let done = run(&sandbox, &options, &["sh", "-c", &script]);
    assert_eq!(done.out, "PONG\nse cret main\n", "{done:?}");
    // Placeholders are filled in.
    let done = run(
        &sandbox,
        &options,
        &["echo", "localhost:{port}", "{meta.token}"],
    );
    assert_eq!(done.out, format!("localhost:{port} se cret\n"), "{done:?}");
    holder.leave();
    sandbox.assert_nothing_left();

    // This client starts the service.
    let done = run(&sandbox, &options, &["sh", "-c", &script]);
    assert_eq!(done.out, "PONG\nse cret main\n", "{done:?}");
}

#[test]
fn exports_and_health_use_the_port_of_a_notification() {
    let workspace = Workspace::new();
    let config = format!(
        "[services.web]\nstart = \"{} 0\"\nready = \"notify\"\nhealth = \"http:/\"\n\
         export.URL = \"http://localhost:{{port}}/\"\n",
        server::command()
    );
    let project = workspace.project("app", &config);
    let script = "echo $URL; echo http://localhost:$PROCREF_PORT/";
    let out = project.output(&["run", "web", "--", "sh", "-c", script]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{out}");
    assert!(!lines[0].ends_with(":0/"), "{out}");
    workspace.wait_no_leftovers();
}

#[test]
fn invalid_notification_fails_the_start_with_the_line() {
    let sandbox = Sandbox::new();
    for (line, reason) in [
        ("PROCREF_PORT=1", "the message contains this variable twice"),
        (
            "PROCREF_META_a-b=c",
            "`PROCREF_META_a-b=c`: a key consists of",
        ),
    ] {
        let done = run(&sandbox, &notifying(line), &["true"]);
        assert_eq!(done.code, Some(125), "{done:?}");
        assert!(
            done.err.contains("sent an invalid notification"),
            "{done:?}"
        );
        assert!(done.err.contains(reason), "{done:?}");
        assert_eq!(
            done.err.lines().filter(|it| it.contains("invalid")).count(),
            1
        );
    }
}
