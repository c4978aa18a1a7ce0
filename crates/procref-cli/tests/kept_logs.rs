//! The log of the last run, which stays after the service has stopped.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use procref_testkit::deadline;
use support::{
    is_kept_log, is_kernel_choice, live_process, output_text,
    sandbox::{Running, Sandbox},
    workspace::{Project, Workspace},
};

/// A service that prints its argument, which is the number of its run.
const NUMBERED: &str = "\
[services.db]
start = ['sh', '-c', 'read -r run <run; echo \"run $run\"; echo; exec sleep 600']
ready = 'log:^$'
";

fn set_run(project: &Project<'_>, number: &str) {
    fs::write(project.dir.join("run"), format!("{number}\n")).expect("write a file");
}

/// Returns the files of the project's runtime directory, except the link to the project and the choice of the kernel.
fn files(project: &Project<'_>) -> Vec<PathBuf> {
    let status = project.procref(&["status", "db", "--json"]).output();
    let (out, _) = output_text(&status.expect("run procref"));
    let status: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let dir = PathBuf::from(status["runtime_dir"].as_str().expect("a path"));
    let entries = fs::read_dir(dir).expect("list the directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name != "project"))
        .filter(|path| !is_kernel_choice(path))
        .collect()
}

#[test]
fn g6_log_of_the_last_run_stays_until_the_next_start_or_gc() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    for run in ["one", "two"] {
        set_run(&project, run);
        project.output(&["run", "db", "--", "true"]);
        project.output(&["wait", "db", "--stopped", "--timeout", "60s"]);
        assert_eq!(project.output(&["logs", "db"]), format!("run {run}\n\n"));
    }
    workspace.wait_no_leftovers();
    let left = files(&project);
    assert!(left.len() == 1 && is_kept_log(&left[0]), "{left:?}");
    let collected = project.output(&["gc"]);
    assert!(collected.contains("removed "), "{collected}");
    assert!(files(&project).is_empty());
    let (code, stderr) = project.failure(&["logs", "db"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("is not running"), "{stderr}");
}

#[test]
fn gc_keeps_the_log_of_a_running_service() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    set_run(&project, "one");
    project.output(&["pin", "db"]);
    project.output(&["gc"]);
    assert_eq!(project.output(&["logs", "db"]), "run one\n\n");
    project.output(&["stop", "db"]);
}

#[test]
fn failed_start_leaves_its_log() {
    let sandbox = Sandbox::new();
    for text in ["broken", "broken again"] {
        let start = format!("sh -c 'echo {text}; exit 3'");
        let done = sandbox.run("db", &["run", "db", "--start", &start, "--", "true"]);
        assert_eq!(done.code, Some(125), "{done:?}");
        assert_eq!(sandbox.stdout("db", &["logs", "db"]), format!("{text}\n"));
    }
    sandbox.assert_nothing_left();
}

#[test]
fn logs_of_several_services_have_prefixes() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.a]\nstart = \"sh -c 'echo one; printf two; exec sleep 600'\"\nready = 'cmd:grep -q two {root}/log'\nlog = 'log'\n\
         [services.cache]\nstart = \"sh -c 'echo three; exec sleep 600'\"\nready = 'log:three'\n",
    );
    project.output(&["pin", "a"]);
    project.output(&["pin", "cache"]);
    let expected = "a     | one\na     | two\ncache | three\n";
    assert_eq!(project.output(&["logs", "a", "cache"]), expected);
    let follow = ["logs", "-f", "-n", "1", "a", "cache"];
    let follower = Running::new(&mut project.procref(&follow));
    assert_eq!(follower.line(), "cache | three");
    project.output(&["stop", "--all"]);
    assert_eq!(
        follower.line(),
        "a     | two",
        "the line ends with the service"
    );
    let mut follower = follower;
    assert_eq!(follower.wait().code(), Some(0));
    assert_eq!(project.output(&["logs", "a", "cache"]), expected);
}

/// Waits until the process watches for changes of files.
fn wait_watching(running: &Running) {
    let dir = format!("/proc/{}/fd", running.child.id());
    deadline::until_true("the process has an inotify instance", || {
        let entries = fs::read_dir(&dir).expect("list the descriptors");
        let mut links = entries
            .flatten()
            .flat_map(|entry| fs::read_link(entry.path()));
        links.any(|link| link.to_string_lossy().contains("inotify"))
    });
}

#[test]
fn logs_follow_waits_for_a_start() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    for run in ["one", "two"] {
        set_run(&project, run);
        let mut follower = Running::new(&mut project.procref(&["logs", "-f", "db"]));
        wait_watching(&follower);
        if run == "two" {
            assert_eq!(follower.line(), "run one", "the last run comes first");
            assert_eq!(follower.line(), "");
        }
        project.output(&["run", "db", "--", "true"]);
        assert_eq!(follower.line(), format!("run {run}"));
        assert_eq!(follower.line(), "");
        assert_eq!(follower.wait().code(), Some(0));
    }
    let mut follower = Running::new(&mut project.procref(&["logs", "-f", "-n", "0", "db"]));
    wait_watching(&follower);
    let program = "sh -c 'echo failed; exit 3'";
    project.failure(&["run", "db", "--start", program, "--", "true"]);
    assert_eq!(follower.line(), "failed");
    assert_eq!(
        follower.wait().code(),
        Some(0),
        "a start that fails is an end"
    );
    let (code, stderr) = project.failure(&["logs", "-f", "dbb"]);
    assert_eq!(code, 3);
    assert!(stderr.contains("did you mean `db`?"), "{stderr}");
}

/// Returns the log of a running service.
fn log_of(project: &Project<'_>) -> PathBuf {
    let status = project.output(&["status", "db", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    PathBuf::from(status["log"].as_str().expect("a path"))
}

/// Writes the part of a log before a rotation.
fn write_older_part(log: &Path, text: &str) {
    let path = PathBuf::from(format!("{}.1", log.display()));
    fs::write(&path, text).expect("write a file");
    // `gc` removes only private files.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

#[test]
fn logs_begin_with_the_part_before_a_rotation() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    set_run(&project, "one");
    project.output(&["pin", "db"]);
    let log = log_of(&project);
    write_older_part(&log, "a\nb\n");
    let last = |number: &str| project.output(&["logs", "db", "-n", number]);
    let check = || {
        assert_eq!(project.output(&["logs", "db"]), "a\nb\nrun one\n\n");
        assert_eq!(last("3"), "b\nrun one\n\n");
        assert_eq!(last("2"), "run one\n\n");
        assert_eq!(last("0"), "");
    };
    check();
    project.output(&["stop", "db"]);
    check();
}

/// The output is longer than the limit, so that a rotation moves the line or is moving it when it is written.
#[test]
fn service_that_prints_much_before_its_line_is_ready() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        r#"[services.db]
        start = ["sh", "-c", "yes 'a line of a migration' | head -n 600000; echo up; exec sleep 1000"]
        ready = "log:^up$"
        "#,
    );
    assert_eq!(
        project.output(&["run", "db", "--", "echo", "client"]),
        "client\n"
    );
    assert_eq!(project.output(&["logs", "db", "-n", "1"]), "up\n");
}

/// A rotation may move output that was not printed yet.
#[test]
fn logs_follow_prints_what_a_rotation_has_moved() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    set_run(&project, "one");
    project.output(&["pin", "db"]);
    let log = log_of(&project);
    let mut follower = Running::new(&mut project.procref(&["logs", "-f", "db"]));
    assert_eq!(follower.line(), "run one");
    assert_eq!(follower.line(), "");
    let moved = "of another run\nrun one\n\nmoved\n";
    write_older_part(&log, moved);
    fs::write(&log, "").expect("truncate the log");
    assert_eq!(follower.line(), "moved");
    fs::write(&log, "new\n").expect("write a file");
    assert_eq!(follower.line(), "new");
    project.output(&["stop", "db"]);
    assert_eq!(follower.wait().code(), Some(0));
}

#[test]
fn logs_follow_separates_two_runs_on_stderr() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    set_run(&project, "one");
    project.output(&["run", "db", "--", "true"]);
    project.output(&["wait", "db", "--stopped", "--timeout", "60s"]);
    set_run(&project, "two");
    for (options, message) in [
        (&[][..], "procref: service `db` was started again\n"),
        (&["--quiet"], ""),
    ] {
        let words = [&["logs", "-f", "db"], options].concat();
        let mut command = project.procref(&words);
        let stderr = workspace.path("stderr");
        command.stderr(fs::File::create(&stderr).expect("create a file"));
        let mut follower = Running::new(&mut command);
        follower.line_containing("run ");
        wait_watching(&follower);
        project.output(&["run", "db", "--", "true"]);
        follower.line_containing("run two");
        assert_eq!(follower.wait().code(), Some(0));
        assert_eq!(fs::read_to_string(&stderr).expect("read"), message);
    }
}

#[test]
fn logs_of_several_report_unknown_names_and_print_the_others() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    set_run(&project, "one");
    project.output(&["run", "db", "--", "true"]);
    let logs = ["logs", "no-such-service", "db", "-n", "2"];
    let output = project.procref(&logs).output().expect("run procref");
    let (out, err) = output_text(&output);
    assert_eq!(output.status.code(), Some(3));
    assert!(out.contains("db              | run one\n"), "{out}");
    assert!(err.contains("no service `no-such-service` in"), "{err}");
}

/// `run` has become its client, which knows nothing of procref. So only the supervisor can remove the dead service.
#[test]
fn g6_dead_service_is_removed_when_its_client_exits() {
    let workspace = Workspace::new();
    let project = workspace.project("app", NUMBERED);
    set_run(&project, "one");
    let client = project.hold("db", ":");
    let mut follower = Running::new(&mut project.procref(&["logs", "-f", "db"]));
    assert_eq!(follower.line(), "run one");
    let status = project.output(&["status", "db", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    live_process(&status["pid"].to_string()).kill();
    deadline::until_true("`status` states how the service died", || {
        let status = project.procref(&["status", "db"]).output();
        let status = status.expect("run procref");
        let text = output_text(&status).0;
        assert!(status.status.code() == Some(0) || status.status.code() == Some(3));
        text.contains("dead, it was killed by signal 9 (its next client starts it again)")
    });
    let listed = project.output(&["ps"]);
    let row = listed.lines().find(|line| line.starts_with("db"));
    let columns: Vec<&str> = row.expect("a row").split_whitespace().collect();
    assert_eq!(columns[..3], ["db", "dead", "1"]);
    client.leave();
    assert_eq!(follower.line(), "");
    assert_eq!(follower.wait().code(), Some(0));
    workspace.wait_no_leftovers();
    assert!(project.output(&["ps"]).contains("absent"));
}
