//! `procref.toml`.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Piped as _, Stage, client, finish, line, service, words, write};

/// A literal text of TOML's: what is in it is what it is.
fn literal(text: &str) -> String {
    format!("'''{text}'''")
}

fn project(stage: &Stage, text: &str) {
    write(&stage.path("here").join("procref.toml"), text);
}

#[test]
fn project_service_runs_in_the_projects_runtime_directory() {
    let stage = Stage::new();
    let start = literal(&service());
    project(
        &stage,
        &format!(
            "[services.web]\nstart = {start}\nport = \"auto\"\nready = \"log:^ready .* serve\"\n\
         env = {{ {} }}\nexport = {{ WEB = \"127.0.0.1:{{port}}\" }}\n",
            words("\"ready to serve\"").replacen('=', " = ", 1),
        ),
    );
    let mut holder = stage.procref(["hold", "web", "--json"]).piped();
    let held: Value = serde_json::from_str(&line(&mut holder)).unwrap();
    let dir = held["runtime_dir"].as_str().unwrap();
    assert!(dir.contains(r"\projects\here-"), "{dir}");
    let done = stage.done(["run", "web", "--", "cmd", "/c", "echo at %WEB%"]);
    assert_eq!(
        done.out.trim_end(),
        format!("at 127.0.0.1:{}", held["port"]),
        "{done:?}"
    );
    let done = stage.done(["ps", "--json", "--all"]);
    let listed: Value = serde_json::from_str(&done.out).unwrap();
    let project = listed["services"][0]["project"].as_str().unwrap();
    assert!(project.ends_with("here"), "{project}");
    procref::process::terminate(holder.id());
    assert_eq!(finish(holder).code, Some(0));
    assert_eq!(stage.life(), ["started", "asked"]);
    // The directory is forgotten with its project.
    fs::remove_file(stage.path("here").join("procref.toml")).unwrap();
    let mut command = stage.procref(["gc", "--all"]);
    fs::rename(stage.path("here"), stage.path("there")).unwrap();
    let done = finish(command.current_dir(stage.path("there")).piped());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!fs::exists(dir).unwrap());
}

#[test]
fn init_runs_once_and_dependency_stops_after_its_dependent() {
    let stage = Stage::new();
    let start = literal(&service());
    write(
        &stage.path("here").join("init.cmd"),
        "@echo made>> %1\\made\r\n",
    );
    project(
        &stage,
        &format!(
            "[services.base]\nstart = {start}\nport = \"auto\"\n\
         [services.top]\nstart = {start}\nport = \"auto\"\ndepends-on = [\"base\"]\ndata = \"data\"\n\
         init = ['.\\init.cmd', '{{data}}']\n",
        ),
    );
    for _ in 0..2 {
        let mut command = stage.procref(["run", "top", "--"]);
        let done = finish(command.args(client()).piped());
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.contains("answer of top: "), "{done:?}");
    }
    let made = fs::read_to_string(stage.path("here").join("data").join("made")).unwrap();
    assert_eq!(made.lines().count(), 1, "{made}");
    let lives = stage.lives();
    let words: Vec<&str> = lives.iter().map(|(word, _)| word.as_str()).collect();
    // The dependent is asked to stop, by way of the process before it, and then what it depends on.
    let round = ["started", "started", "asked", "asked"];
    assert_eq!(words, [round, round].concat());
    assert_eq!((lives[0].1, lives[1].1), (lives[3].1, lives[2].1));
}

#[test]
fn dependency_lives_as_long_as_its_dependent() {
    let stage = Stage::new();
    let start = literal(&service());
    project(
        &stage,
        &format!(
            "[services.base]\nstart = {start}\nport = \"auto\"\n\
         [services.top]\nstart = {start}\nport = \"auto\"\ndepends-on = [\"base\"]\n",
        ),
    );
    let mut holder = stage.procref(["hold", "top"]).piped();
    line(&mut holder);
    let done = stage.done(["status", "base", "--json"]);
    let status: Value = serde_json::from_str(&done.out).unwrap();
    // This client, and the process that is the service.
    assert_eq!(status["clients"], 2, "{status}");
    holder.crash();
    for name in ["top", "base"] {
        let done = stage.done(["wait", name, "--stopped", "--timeout", "60s"]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert!(
        stage
            .lives()
            .iter()
            .all(|(_, pid)| !procref::process::is_alive(*pid))
    );
}
