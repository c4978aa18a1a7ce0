//! `procref.toml`.

use std::fs;

use serde_json::Value;

use crate::sandbox::{
    Sandbox, SpawnPiped as _, client_command, finish, message, next_line, service_command, write,
};

/// Returns a literal string of TOML, in which a backslash is not an escape.
fn literal(text: &str) -> String {
    format!("'''{text}'''")
}

fn project(sandbox: &Sandbox, text: &str) {
    write(&sandbox.path("here").join("procref.toml"), text);
}

#[test]
fn project_service_runs_in_the_projects_runtime_directory() {
    let sandbox = Sandbox::new();
    let start = literal(&service_command());
    project(
        &sandbox,
        &format!(
            "[services.web]\nstart = {start}\nport = \"auto\"\nready = \"log:^ready .* serve\"\n\
         env = {{ {} }}\nexport = {{ WEB = \"127.0.0.1:{{port}}\" }}\n",
            message("\"ready to serve\"").replacen('=', " = ", 1),
        ),
    );
    let mut holder = sandbox.procref(["hold", "web", "--json"]).spawn_piped();
    let held: Value = serde_json::from_str(&next_line(&mut holder)).unwrap();
    let dir = held["runtime_dir"].as_str().unwrap();
    assert!(dir.contains(r"\projects\here-"), "{dir}");
    let done = sandbox.run(["run", "web", "--", "cmd", "/c", "echo at %WEB%"]);
    assert_eq!(
        done.out.trim_end(),
        format!("at 127.0.0.1:{}", held["port"]),
        "{done:?}"
    );
    let done = sandbox.run(["ps", "--json", "--all"]);
    let listed: Value = serde_json::from_str(&done.out).unwrap();
    let project = listed["services"][0]["project"].as_str().unwrap();
    assert!(project.ends_with("here"), "{project}");
    procref::process::terminate(holder.id());
    assert_eq!(finish(holder).code, Some(0));
    assert_eq!(sandbox.events(), ["started", "stopping"]);
    // `gc --all` removes the runtime directory of a project that no longer exists.
    fs::remove_file(sandbox.path("here").join("procref.toml")).unwrap();
    let mut command = sandbox.procref(["gc", "--all"]);
    fs::rename(sandbox.path("here"), sandbox.path("there")).unwrap();
    let done = finish(command.current_dir(sandbox.path("there")).spawn_piped());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!fs::exists(dir).unwrap());
}

#[test]
fn init_runs_once_and_dependency_stops_after_its_dependent() {
    let sandbox = Sandbox::new();
    let start = literal(&service_command());
    write(
        &sandbox.path("here").join("init.cmd"),
        "@echo made>> %1\\made\r\n",
    );
    project(
        &sandbox,
        &format!(
            "[services.base]\nstart = {start}\nport = \"auto\"\n\
         [services.top]\nstart = {start}\nport = \"auto\"\ndepends-on = [\"base\"]\ndata = \"data\"\n\
         init = ['.\\init.cmd', '{{data}}']\n",
        ),
    );
    for _ in 0..2 {
        let mut command = sandbox.procref(["run", "top", "--"]);
        let done = finish(command.args(client_command()).spawn_piped());
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.contains("answer of top: "), "{done:?}");
    }
    let made = fs::read_to_string(sandbox.path("here").join("data").join("made")).unwrap();
    assert_eq!(made.lines().count(), 1, "{made}");
    let events = sandbox.events_with_pids();
    let names: Vec<&str> = events.iter().map(|(event, _)| event.as_str()).collect();
    // procref stops the dependent first, through the process that ran `init`, and then the dependency.
    let round = ["started", "started", "stopping", "stopping"];
    assert_eq!(names, [round, round].concat());
    assert_eq!((events[0].1, events[1].1), (events[3].1, events[2].1));
}

#[test]
fn dependency_lives_as_long_as_its_dependent() {
    let sandbox = Sandbox::new();
    let start = literal(&service_command());
    project(
        &sandbox,
        &format!(
            "[services.base]\nstart = {start}\nport = \"auto\"\n\
         [services.top]\nstart = {start}\nport = \"auto\"\ndepends-on = [\"base\"]\n",
        ),
    );
    let mut holder = sandbox.procref(["hold", "top"]).spawn_piped();
    next_line(&mut holder);
    let done = sandbox.run(["status", "base", "--json"]);
    let status: Value = serde_json::from_str(&done.out).unwrap();
    // The two clients are `hold` and the process that runs the dependent.
    assert_eq!(status["clients"], 2, "{status}");
    holder.kill();
    for name in ["top", "base"] {
        let done = sandbox.run(["wait", name, "--stopped", "--timeout", "60s"]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert!(
        sandbox
            .events_with_pids()
            .iter()
            .all(|(_, pid)| !procref::process::is_alive(*pid))
    );
}
