//! `init` and `data`: `init` fills a data directory once and completely.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::PathBuf;

use procref_testkit::deadline;
use support::workspace::{Project, Workspace};

/// Creates a project whose `init` runs this script with the data directory as `$1`.
fn project<'a>(workspace: &'a Workspace, init: &str) -> Project<'a> {
    let config = format!(
        "[services.db]\nstart = 'sleep 600'\ndata = 'my data/db'\n\
         init = ['sh', '-c', '''echo made >>made; {init}''', 'init', '{{data}}']\n"
    );
    workspace.project("app", &config)
}

fn data(project: &Project<'_>) -> PathBuf {
    project.dir.join("my data/db")
}

/// Returns how many times `init` was run.
fn init_runs(project: &Project<'_>) -> usize {
    fs::read_to_string(project.dir.join("made"))
        .unwrap_or_default()
        .lines()
        .count()
}

const USE: [&str; 4] = ["run", "db", "--", "true"];

#[test]
fn init_runs_once_for_concurrent_and_later_starts() {
    let workspace = Workspace::new();
    let project = project(&workspace, r#"echo content >"$1/file""#);
    project.run_together((0..8).map(|_| project.procref(&USE)));
    project.output(&USE);
    assert_eq!(init_runs(&project), 1);
    let content = fs::read_to_string(data(&project).join("file"));
    assert_eq!(content.expect("read the file"), "content\n");
}

#[test]
fn init_failure_is_reported_and_next_start_reruns_init() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        r#"test -e ok && exit; touch "$1/half"; echo disk is full; exit 3"#,
    );
    let (code, stderr) = project.failure(&USE);
    assert_eq!(code, 125, "{stderr}");
    for part in ["`db`", "`init` failed", "3", "disk is full"] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
    assert!(
        data(&project).join("half").exists(),
        "the user cannot examine the directory"
    );
    fs::write(project.dir.join("ok"), "").expect("write a file");
    project.output(&USE);
    assert!(!data(&project).join("half").exists());
    assert_eq!(init_runs(&project), 2);
}

#[test]
fn init_of_a_killed_start_is_rerun_in_an_empty_directory() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        r#"test -e ok && exit; touch "$1/half" begun; exec sleep 600"#,
    );
    let mut starter = project.procref(&USE).spawn().expect("run procref");
    deadline::until_true("init runs", || project.dir.join("begun").exists());
    starter.kill().expect("kill the client");
    starter.wait().expect("wait for the client");
    fs::write(project.dir.join("ok"), "").expect("write a file");
    project.output(&USE);
    assert!(
        !data(&project).join("half").exists(),
        "the incomplete directory was not removed"
    );
    assert_eq!(init_runs(&project), 2);
    project.output(&USE);
    assert_eq!(init_runs(&project), 2, "`init` was run again");
}

#[test]
fn data_directory_not_filled_by_init_is_refused_untouched() {
    let workspace = Workspace::new();
    let project = project(&workspace, "true");
    fs::create_dir_all(data(&project)).expect("create a directory");
    fs::write(data(&project).join("precious"), "content").expect("write a file");
    let (_, stderr) = project.failure(&USE);
    assert!(
        stderr.contains("has entries that `init` did not create"),
        "{stderr}"
    );
    let content = fs::read_to_string(data(&project).join("precious"));
    assert_eq!(content.expect("read the file"), "content");
    assert_eq!(init_runs(&project), 0);
    // The error advises the user to create a marker if the content is complete.
    let advice = stderr
        .split("run `touch ")
        .nth(1)
        .and_then(|rest| rest.split('`').next());
    fs::write(advice.expect("a file to touch"), "").expect("write a file");
    project.output(&USE);
    assert_eq!(init_runs(&project), 0);
}

#[test]
fn g1_init_runs_once_across_runtime_directories() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        r#"mkdir "$1/only-one-can"; sleep 0.3; rmdir "$1/only-one-can""#,
    );
    project.run_together((0..4).map(|number| {
        let dir = workspace.path(&format!("run/other-{number}"));
        let mut command = project.procref(&USE);
        command.env("PROCREF_RUNTIME_DIR", dir);
        command
    }));
    assert_eq!(init_runs(&project), 1);
}

#[test]
fn data_directory_is_created_when_there_is_no_init() {
    let workspace = Workspace::new();
    let config = "[services.db]\nstart = ['sh', '-c', 'test -d \"$0\" && exec sleep 600', '{data}']\ndata = 'd'\n";
    let project = workspace.project("app", config);
    project.output(&USE);
    assert!(project.dir.join("d").is_dir());
}

#[test]
fn service_with_init_is_reported_like_any_other() {
    let workspace = Workspace::new();
    let with_init =
        |start: &str| format!("[services.db]\nstart = {start}\ndata = 'd'\ninit = 'true'\n");
    let project = workspace.project("app", &with_init("'no-such-program'"));
    let (code, stderr) = project.failure(&USE);
    assert_eq!(code, 125);
    assert!(
        stderr.contains("could not execute `no-such-program`"),
        "{stderr}"
    );
    project.configure(&with_init(
        "['sh', '-c', 'echo all is lost; exit 7']\nport = 'auto'",
    ));
    let (_, stderr) = project.failure(&USE);
    assert!(stderr.contains("`sh` exited with status 7"), "{stderr}");
    assert!(stderr.contains("all is lost"), "{stderr}");
    // The process that ran `init` executes the program. No process waits for the service as its child.
    project.configure(&with_init("'sleep 600'"));
    let client = project.hold("db", r#"tr '\0' ' ' <"/proc/$PROCREF_PID/cmdline"; echo"#);
    assert_eq!(client.printed, ["sleep 600"]);
    let status = project.output(&["status", "db"]);
    assert!(
        status.contains("sleep 600") && !status.contains("__service"),
        "{status}"
    );
}

#[test]
fn directory_procref_ignores_itself_and_keeps_a_file_of_the_user() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.db]\nstart = 'sleep 600'\ndata = '.procref/db'\n\
         init = ['sh', '-c', 'test -z \"$(ls -A \"$0\")\"', '{data}']\n",
    );
    project.output(&USE);
    let file = project.dir.join(".procref/.gitignore");
    assert_eq!(fs::read_to_string(&file).expect("read the file"), "*\n");
    fs::write(&file, "mine\n").expect("write the file");
    project.output(&USE);
    assert_eq!(fs::read_to_string(&file).expect("read the file"), "mine\n");
}

#[test]
fn other_data_directories_get_no_ignore_file() {
    let workspace = Workspace::new();
    let project = project(&workspace, "true");
    project.output(&USE);
    for dir in [project.dir.join("my data"), data(&project)] {
        assert!(!dir.join(".gitignore").exists(), "{}", dir.display());
    }
}
