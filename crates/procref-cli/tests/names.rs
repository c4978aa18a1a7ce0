//! Names on the command line: names of commands, and service names that no file and no record contains.

#![cfg(target_os = "linux")]

mod support;

use support::{output_text, stdout_of, workspace::Workspace};

const REDIS: &str = "[services.redis]\nstart = 'sleep 600'\nready = 'started'\n";

/// The commands that take the name of a service, with the options that they need.
///
/// A `wait` that procref does not refuse would wait indefinitely, so it has a time limit.
const NAMING: [&[&str]; 11] = [
    &["wait", "--timeout", "20s"],
    &["wait", "--stopped", "--timeout", "20s"],
    &["stop"],
    &["stop", "--force"],
    &["stop", "--json"],
    &["restart"],
    &["unpin"],
    &["status"],
    &["logs"],
    &["hold"],
    &["pin"],
];

/// Returns the command with the name of a service as its first argument.
fn with_name<'a>(command: &[&'a str], name: &'a str) -> Vec<&'a str> {
    [&command[..1], &[name], &command[1..]].concat()
}

#[test]
fn unknown_name_fails_at_once_and_suggests_the_nearest_name() {
    let workspace = Workspace::new();
    let project = workspace.project("app", REDIS);
    for command in NAMING {
        for (name, expected) in [
            ("rdis", "did you mean `redis`?"),
            ("Redis", "did you mean `redis`?"),
            ("xyz", "available: `redis`"),
            ("a\u{1b}[2J\nb", "no service `a\\u{1b}[2J\\nb` in "),
        ] {
            let (code, stderr) = project.failure(&with_name(command, name));
            assert_eq!(code, 3, "{command:?} {name:?}: {stderr}");
            assert!(stderr.contains(expected), "{command:?} {name:?}: {stderr}");
            assert!(!stderr.contains('\u{1b}'), "{command:?} {name:?}: {stderr}");
        }
    }
    let (code, stderr) = project.failure(&["run", "rdis", "--", "true"]);
    assert_eq!(code, 125);
    assert!(stderr.contains("did you mean `redis`?"), "{stderr}");
}

#[test]
fn unknown_name_error_states_cause_place_and_advice() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.postgres]\nstart = 'sleep 600'\n");
    let file = project.dir.join("procref.toml");
    let file = file.display();
    let (_, stderr) = project.failure(&["run", "pg", "--", "true"]);
    assert_eq!(
        stderr,
        format!("procref: no service `pg` in {file}; did you mean `postgres`?\n")
    );
    let (code, stderr) = project.failure(&["--no-config", "status", "postgres"]);
    assert_eq!(code, 3);
    assert!(
        stderr.contains("--no-config reads no file (to start it,"),
        "{stderr}"
    );
    project.configure("");
    let (_, stderr) = project.failure(&["run", "pg", "--", "true"]);
    assert_eq!(
        stderr,
        format!(
            "procref: no service `pg` in {file} (describe it there, or use `procref run` with `--start COMMAND`)\n"
        )
    );
    let empty = workspace.empty_project("empty");
    for (name, recipe) in [("pg", "postgres"), ("db", "redis"), ("nginx", "nginx")] {
        let (_, stderr) = empty.failure(&["run", name, "--", "true"]);
        let expected = format!(
            "procref: service `{name}` is not running, and there is no procref.toml in {} or above it (`procref init \
             --recipe {recipe}` writes one, and `procref run` with `--start COMMAND` needs none)\n",
            empty.dir.display()
        );
        assert_eq!(stderr, expected);
    }
}

#[test]
fn name_with_a_line_break_is_escaped_in_every_message() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let name = "a\nb";
    let start = ["--start", "sleep 600", "--ready", "started"];
    let mut texts = Vec::new();
    for args in [
        &["run", name, "--", "true"][..],
        &["pin", name, "--start", "/no/such", "--ready", "started"],
        &["pin", name, "--start", "sleep 600", "--ready", "http:/"],
    ] {
        texts.push(project.failure(args).1);
    }
    let pinned = project
        .procref(&[&["pin", name][..], &start].concat())
        .output();
    texts.push(output_text(&pinned.expect("run procref")).1);
    let listed = project.output(&["ps"]);
    assert!(listed.contains("\na\\nb "), "{listed}");
    texts.push(project.output(&["status", name]));
    let client = ["--", "no\nclient"];
    texts.push(
        project
            .failure(&[&["run", name][..], &client].concat())
            .1
            .replace("no\\nclient", "a\\nb"),
    );
    let stopped = project.procref(&["stop", name]).output();
    texts.push(output_text(&stopped.expect("run procref")).1);
    for text in texts {
        assert!(text.contains("a\\nb"), "{text:?}");
        assert!(!text.contains("a\nb"), "{text:?}");
    }
}

#[test]
fn unknown_name_suggests_running_services_without_config() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let pin = ["pin", "tools", "--start", "sleep 600", "--ready", "started"];
    project.output(&pin);
    for command in NAMING {
        let (code, stderr) = project.failure(&with_name(command, "tool"));
        assert_eq!(code, 3, "{command:?}: {stderr}");
        assert!(
            stderr.contains("did you mean `tools`?"),
            "{command:?}: {stderr}"
        );
    }
    project.output(&["wait", "tools"]);
    project.output(&["stop", "tools"]);
    let (code, _) = project.failure(&["stop", "tools"]);
    assert_eq!(code, 3);
}

#[test]
fn known_name_is_accepted_when_the_service_does_not_run() {
    let workspace = Workspace::new();
    let project = workspace.project("app", REDIS);
    for words in [
        &["stop", "redis"][..],
        &["stop", "--force", "redis"],
        &["unpin", "redis"],
        &["wait", "redis", "--stopped"],
    ] {
        project.output(words);
    }
    let (code, _) = project.failure(&["wait", "redis", "--timeout", "1ms"]);
    assert_eq!(code, 5);
    let json = project.output(&["stop", "redis", "--json"]);
    assert_eq!(json, "{\"name\":\"redis\",\"stopped\":false}\n");
}

#[test]
fn unknown_name_is_waited_for_with_allow_unknown() {
    let workspace = Workspace::new();
    let project = workspace.project("app", REDIS);
    let wait = ["wait", "tools", "--allow-unknown"];
    let (code, _) = project.failure(&[&wait[..], &["--timeout", "1ms"]].concat());
    assert_eq!(code, 5);
    project.output(&[&wait[..], &["--stopped"]].concat());
}

#[test]
fn name_from_another_project_is_refused_with_its_directory() {
    let workspace = Workspace::new();
    let (app, other) = (
        workspace.project("app", REDIS),
        workspace.project("other", ""),
    );
    app.output(&["pin", "redis"]);
    other.output(&["pin", "tools", "--start", "sleep 600", "--ready", "started"]);
    for command in NAMING {
        let (code, stderr) = other.failure(&with_name(command, "redis"));
        assert_eq!(code, 3, "{command:?}: {stderr}");
        let place = format!("is running in the project {}", app.dir.display());
        assert!(stderr.contains(&place), "{command:?}: {stderr}");
    }
    app.configure(&format!("{REDIS}[services.tools]\nstart = 'sleep 600'\n"));
    let (code, stderr) = app.failure(&["status", "tools"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("--no-config"), "{stderr}");
    app.output(&["stop", "redis"]);
    other.output(&["stop", "tools"]);
}

#[test]
fn help_command_prints_the_same_as_the_help_option() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    assert_eq!(project.output(&["help"]), project.output(&["--help"]));
    for command in ["run", "ps", "help", "man", "completions"] {
        let expected = project.output(&[command, "--help"]);
        assert_eq!(project.output(&["help", command]), expected, "{command}");
    }
    let list = project.output(&["help", "list"]);
    assert_eq!(
        list,
        project.output(&["help", "ps"]),
        "`list` is an alias of `ps`"
    );
    for (name, expected) in [
        ("rum", "did you mean `run`?"),
        ("__service", "available: `run`"),
    ] {
        for command in ["help", "man"] {
            let (code, stderr) = project.failure(&[command, name]);
            assert_eq!(code, 2, "{command} {name}: {stderr}");
            assert!(stderr.contains(expected), "{command} {name}: {stderr}");
        }
    }
}

#[test]
fn internal_commands_are_hidden() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let shells = ["bash", "zsh", "fish", "elvish", "powershell"];
    let mut texts: Vec<String> = shells
        .iter()
        .map(|shell| project.output(&["completions", shell]))
        .collect();
    // The scripts contain no commands. They execute procref to get the words.
    for (words, expected) in [
        (&[""][..], &["unpin", "doctor", "help"][..]),
        (&["run", "--"], &["--watch-client"]),
    ] {
        let line = [&["--", "procref"], words].concat();
        let mut command = project.procref(&line);
        let text = stdout_of(command.env("PROCREF_COMPLETE", "fish"));
        for word in expected {
            assert!(text.contains(word), "{word}: {text}");
        }
        texts.push(text);
    }
    texts.push(project.output(&["help"]));
    texts.push(project.output(&["man"]));
    texts.push(project.output(&["man", "help"]));
    project.output(&["man", "--out", "pages"]);
    for page in std::fs::read_dir(project.dir.join("pages")).expect("list the pages") {
        let page = page.expect("a page");
        texts.push(format!("{:?}", page.file_name()));
        texts.push(std::fs::read_to_string(page.path()).expect("read a page"));
    }
    for text in texts {
        let text = text.replace('\\', "");
        // Names of internal commands begin with two underscores. Names of shell functions contain them.
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for word in text.split(|c| !is_part(c)) {
            let hidden = ["__service", "__doctor-probe", "__demo"]
                .iter()
                .any(|name| word.starts_with(name));
            assert!(!hidden && !word.contains("____"), "{word}: {text}");
        }
    }
}
