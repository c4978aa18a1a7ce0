//! `procref init`, and the configuration in the README.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::ffi::OsString;
use std::process::Command;
use std::{env, fs};

use support::{
    output_text,
    workspace::{Project, Workspace},
};

const RECIPES: [&str; 18] = [
    "postgres",
    "postgres-tcp",
    "mariadb",
    "redis",
    "memcached",
    "nats",
    "rabbitmq",
    "nginx",
    "python-http",
    "vite",
    "next",
    "moto",
    "maildev",
    "ollama",
    "docker",
    "podman",
    "chromedriver",
    "xvfb",
];

/// Returns a `PATH` whose `redis-server` is the server of the tests.
fn path_with_stand_in(project: &Project<'_>) -> OsString {
    let dir = project.workspace.path("stand-in");
    // The recipe's arguments are `--bind ADDRESS --port PORT …`.
    let script = format!("#!/bin/sh\nexec {} \"$4\"\n", server::command());
    // The shell writes the file. If this process did, a child that another test forks could inherit the descriptor,
    // and a file that is open for writing cannot be executed (`ETXTBSY`).
    let write = "mkdir $0 && printf %s \"$1\" >$0/redis-server && chmod 700 $0/redis-server";
    let status = Command::new("sh")
        .args(["-c", write])
        .arg(&dir)
        .arg(&script)
        .status();
    assert!(status.expect("run sh").success());
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [dir].into_iter().chain(env::split_paths(&path));
    env::join_paths(dirs).expect("a path")
}

/// Runs a client of the service `redis`, which the stand-in serves.
#[track_caller]
fn assert_redis_runs(project: &Project<'_>) {
    let output = project
        .procref(&["run", "redis", "--", "echo", "runs"])
        .env("PATH", path_with_stand_in(project))
        .output();
    let (out, err) = output_text(&output.expect("run procref"));
    assert_eq!(out, "runs\n", "{err}");
    project.output(&["stop", "redis"]);
}

#[test]
fn init_keeps_an_existing_file() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "# mine\n");
    let (code, stderr) = project.failure(&["init"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("procref.toml: the file exists"), "{stderr}");
    let link = workspace.path("app/link.toml");
    std::os::unix::fs::symlink("nowhere", &link).expect("create a link");
    project.failure(&["init", "--config", "link.toml"]);
    project.failure(&["init", "redis", "--config", "link.toml"]);
    let content = fs::read_to_string(project.dir.join("procref.toml"));
    assert_eq!(content.expect("read procref.toml"), "# mine\n");
    assert!(!workspace.path("app/nowhere").exists());
}

#[test]
fn init_names_the_schema_in_a_new_file() {
    let workspace = Workspace::new();
    for (dir, args) in [("one", &["init"][..]), ("two", &["init", "redis"])] {
        let project = workspace.empty_project(dir);
        project.output(args);
        let written = fs::read_to_string(project.dir.join("procref.toml")).expect("read the file");
        let first = written.lines().next().expect("a line");
        let url = first.strip_prefix("#:schema https://").expect(first);
        assert!(url.ends_with("/docs/procref.schema.json"), "{first}");
        assert_eq!(written.matches("#:schema").count(), 1);
        // No service runs, so `stop` only reads the configuration.
        project.output(&["stop", if dir == "one" { "web" } else { "redis" }]);
    }
}

#[test]
fn init_adds_recipes_to_an_existing_file() {
    let workspace = Workspace::new();
    let mine = "# mine\r\n[services.db]   # a comment\r\nstart = 'sleep 600'\r\nready = 'started'";
    let project = workspace.project("app", mine);
    let file = project.dir.join("procref.toml");
    let content = || fs::read_to_string(&file).expect("read procref.toml");
    let init = project.procref(&["init", "redis", "nginx", "--recipe", "redis"]);
    let (_, stderr) = output_text(&{ init }.output().expect("run procref"));
    assert_eq!(
        stderr,
        "added `redis` and `nginx` to procref.toml\n\
         next: procref run redis -- sh -c 'redis-cli -u \"$REDIS_URL\" ping'\n"
    );
    let added = content();
    let rest = added.strip_prefix(mine).expect("the text that was there");
    assert!(rest.starts_with("\r\n\r\n# Redis"), "{rest:?}");
    assert_eq!(rest.matches("[services.redis]").count(), 1);
    project.output(&["run", "db", "--", "true"]);
    assert_redis_runs(&project);
    for recipes in [&["redis"][..], &["postgres", "redis"]] {
        let (code, stderr) = project.failure(&[&["init"][..], recipes].concat());
        assert_eq!(code, 2, "{stderr}");
        let expected = "could not add `redis` to procref.toml: the file has a service of this name";
        assert!(stderr.contains(expected), "{stderr}");
        assert_eq!(content(), added);
    }
}

#[test]
fn init_leaves_a_file_unchanged_that_cannot_get_another_table() {
    let workspace = Workspace::new();
    for (text, expected) in [
        (
            "services = { db = { start = 'x' } }\n",
            "could not add a table",
        ),
        ("[services.db\n", "procref.toml:1:13: invalid TOML"),
    ] {
        let project = workspace.project("app", text);
        let (code, stderr) = project.failure(&["init", "redis"]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        let content = fs::read_to_string(project.dir.join("procref.toml"));
        assert_eq!(content.expect("read procref.toml"), text);
    }
}

#[test]
fn init_prints_recipes_that_can_be_added_to_a_file() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let printed = project.output(&["init", "--print", "--recipe", "redis", "--recipe", "redis"]);
    assert_eq!(printed.matches("[services.redis]").count(), 1);
    project.configure(&printed);
    assert_redis_runs(&project);
}

#[test]
fn recipes_work_together_in_one_file() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let mut args = vec!["init"];
    for recipe in RECIPES {
        args.extend(["--recipe", recipe]);
    }
    project.output(&args);
    assert_redis_runs(&project);
}

#[test]
fn init_lists_recipes_as_text_and_json() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let listed = project.output(&["init", "--list"]);
    let json: serde_json::Value =
        serde_json::from_str(&project.output(&["init", "--list", "--json"])).expect("JSON");
    let names: Vec<&str> = json
        .as_array()
        .expect("an array")
        .iter()
        .map(|recipe| recipe["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, RECIPES);
    assert!(
        names
            .iter()
            .zip(listed.lines())
            .all(|(name, line)| line.starts_with(name)),
        "{listed}"
    );
    let (code, stderr) = project.failure(&["init", "--recipe", "mysql"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("postgres"),
        "the error lists the recipes: {stderr}"
    );
}

#[test]
fn readme_configurations_are_accepted() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).expect("read the README");
    let blocks = readme.split("```toml\n").skip(1);
    let workspace = Workspace::new();
    let mut services = 0;
    for block in blocks.filter_map(|rest| rest.split("```").next()) {
        let project = workspace.project("readme", block);
        let names = block.lines().filter_map(|line| {
            let name = line.strip_prefix("[services.")?;
            name.strip_suffix(']')
        });
        for name in names {
            // No service runs, so `stop` only reads the configuration.
            project.output(&["stop", name]);
            services += 1;
        }
    }
    assert_ne!(services, 0, "the README shows no service");
}
