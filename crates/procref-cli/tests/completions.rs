//! Completions in bash, and the manual pages. The tests with other shells need these shells, see `real_servers`.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;

use support::{
    PROCREF, copy_environment, output_text, path_text,
    workspace::{Project, Workspace},
};

const SERVICES: &str = "\
[services.redis]
start = \"redis-server\"
[services.web]
start = \"web-server\"
[services.\"two words\"]
start = \"web-server\"
";

/// Returns the words that bash offers for the last word of a command line.
#[track_caller]
fn offered(project: &Project<'_>, words: &[&str]) -> Vec<String> {
    let script = format!(
        r#"
source <({PROCREF} completions bash)
declare -A taken
read -r _ completes < <(complete -p procref | sed 's/.* -F \([^ ]*\) .*/- \1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
"$completes" procref "${{@: -1}}" "${{@: -2:1}}"
printf '%s\n' "${{COMPREPLY[@]}}"
"#
    );
    let template = project.workspace.procref(&project.dir);
    let mut command = std::process::Command::new("bash");
    copy_environment(&template, &mut command);
    let dir = Path::new(PROCREF).parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command
        .args(["-c", &script, "bash"])
        .args(words)
        .env("PATH", format!("{}:{path}", path_text(dir)))
        .current_dir(&project.dir)
        .output()
        .expect("run bash");
    let (out, err) = output_text(&output);
    assert!(err.is_empty(), "{err}");
    out.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_services_recipes_and_options() {
    let workspace = Workspace::new();
    let project = workspace.project("app", SERVICES);
    assert_eq!(offered(&project, &["procref", "status", "r"]), ["redis"]);
    assert_eq!(
        offered(&project, &["procref", "status", "re"]),
        offered(&project, &["procref", "run", "re"])
    );
    assert_eq!(
        offered(&project, &["procref", "init", "--recipe", "postgres"]),
        ["postgres", "postgres-tcp"]
    );
    assert_eq!(
        offered(&project, &["procref", "run", "web", "--watch-c"]),
        ["--watch-client"]
    );
    let services = offered(&project, &["procref", "stop", ""]);
    assert!(services.contains(&"web".to_owned()), "{services:?}");
    // bash would insert this name as two words.
    assert!(!services.contains(&"two words".to_owned()), "{services:?}");
    let config = workspace.path("other.toml");
    fs::write(&config, "[services.elsewhere]\nstart = \"x\"\n").expect("write a file");
    let config = path_text(&config);
    for line in [
        ["procref", "--config", &config, "status", "e"],
        ["procref", "status", "--config", &config, "e"],
    ] {
        assert_eq!(offered(&project, &line), ["elsewhere"]);
    }
    let none = offered(&project, &["procref", "--no-config", "status", "r"]);
    assert_eq!(none, [""]);
}

#[test]
fn bash_completes_programs_and_files_after_the_dashes() {
    let workspace = Workspace::new();
    let project = workspace.project("app", SERVICES);
    fs::write(project.dir.join("redis.conf"), "").expect("write a file");
    let programs = offered(&project, &["procref", "run", "redis", "--", "mkfif"]);
    assert_eq!(programs, ["mkfifo"]);
    // Not the service.
    let programs = offered(&project, &["procref", "run", "web", "--", "redis.c"]);
    assert_eq!(programs, [""]);
    let files = offered(&project, &["procref", "run", "web", "--", "cat", "red"]);
    assert_eq!(files, ["redis.conf"]);
    let files = offered(&project, &["procref", "run", "web", "--", "./red"]);
    assert_eq!(files, ["./redis.conf"]);
    let services = offered(&project, &["procref", "run", "web", "red"]);
    assert_eq!(services, ["redis"], "before the dashes");
}

#[test]
fn bash_completes_the_files_of_known_projects() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.web]\nstart = \"sleep 60\"\n");
    project.output(&["run", "web", "--ready", "started", "--", "true"]);
    let other = workspace.empty_project("other");
    let begin = path_text(&project.dir);
    let file = format!("{begin}/procref.toml");
    assert!(offered(&other, &["procref", "--config", &begin]).contains(&file));
}

#[test]
fn bash_completes_no_hidden_command() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let commands = offered(&project, &["procref", ""]);
    for shown in ["run", "ps", "completions"] {
        assert!(commands.contains(&shown.to_owned()), "{commands:?}");
    }
    for begin in ["_", "__", "pre", "doctor-", "demo-"] {
        assert_eq!(offered(&project, &["procref", begin]), [""], "{begin}");
    }
}

#[test]
fn manual_pages_have_examples_environment_and_files() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let root = project.output(&["man"]);
    let headings = [
        "SYNOPSIS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "REPORTING BUGS",
    ];
    for heading in headings {
        let line = match heading.contains(' ') {
            true => format!(".SH \"{heading}\""),
            false => format!(".SH {heading}"),
        };
        assert!(root.lines().any(|it| it == line), "{heading}: {root}");
    }
    assert!(
        root.contains("\\fBrun\\fR"),
        "the synopsis has each command: {root}"
    );
    assert!(!root.contains("prestart"), "{root}");
}

/// docs/cli.md and procref.toml(5) describe the same keys.
#[test]
fn toml_page_has_the_keys_of_the_documentation() {
    let workspace = Workspace::new();
    let page = workspace
        .empty_project("app")
        .output(&["man", "procref.toml"]);
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let guide = fs::read_to_string(guide).expect("read docs/cli.md");
    let (_, keys) = guide
        .split_once("### Keys of a service")
        .expect("the section");
    let (keys, _) = keys.split_once("\n\nNo shell").expect("its end");
    let mut in_guide: Vec<&str> = keys
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let (_, described) = page
        .split_once(".SH \"KEYS OF A SERVICE\"")
        .expect("the section");
    let (described, _) = described.split_once(".SH").expect("its end");
    let described = described.replace("\\-", "-");
    let mut in_page: Vec<&str> = described
        .lines()
        .filter_map(|line| line.strip_prefix("\\fB")?.split("\\fR").next())
        .collect();
    in_guide.sort_unstable();
    in_page.sort_unstable();
    assert_eq!(in_page, in_guide);
}
