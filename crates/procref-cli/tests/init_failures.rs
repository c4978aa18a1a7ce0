//! The error that a client receives when `init` fails. Its first line names `init` and the program of `init`.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use procref_testkit::deadline;
use support::{
    assert_first_line, live_process, output_text,
    workspace::{Project, Workspace},
};

const USE: [&str; 4] = ["run", "db", "--", "true"];

/// Creates a project with this `init`.
///
/// The program of the service is missing too, but an error about it would blame a program that never ran. The
/// readiness check always fails.
fn project<'a>(workspace: &'a Workspace, init: &str) -> Project<'a> {
    let config = format!(
        "[services.db]\nstart = 'no-such-server --port {{port}}'\ndata = 'data'\ninit = {init}\nready = 'cmd:false'\n"
    );
    workspace.project("app", &config)
}

/// Runs a command that must fail because of `init`, and returns the error. Its first line has these parts.
#[track_caller]
fn fails_with(project: &Project<'_>, args: &[&str], parts: &[&str]) -> String {
    let (code, stderr) = project.failure(args);
    assert_first_line(&stderr, &["`db`", "`init`"]);
    assert_first_line(&stderr, parts);
    assert!(!stderr.contains("no-such-server"), "{stderr}");
    assert_eq!(code, 125);
    stderr
}

#[test]
fn missing_init_program_is_named_in_the_first_line() {
    let workspace = Workspace::new();
    let project = project(&workspace, "'no-such-initdb -D {data}'");
    fails_with(
        &project,
        &USE,
        &[
            "could not execute `no-such-initdb`",
            "not found in the PATH",
            "`path`",
        ],
    );
    // The error is the same if `init` names the program by its path.
    project.configure(
        &fs::read_to_string(project.dir.join("procref.toml"))
            .expect("read procref.toml")
            .replace("no-such-initdb", "/no/such/initdb"),
    );
    fails_with(
        &project,
        &USE,
        &["could not execute `/no/such/initdb`", "No such file"],
    );
}

/// The client reads only the end of the log, which must contain the error.
#[test]
fn missing_init_program_is_named_when_path_is_long() {
    let workspace = Workspace::new();
    let project = project(&workspace, "'no-such-initdb -D {data}'");
    let path = std::env::var("PATH").unwrap_or_default();
    let long = format!("{path}:{}", "/long/way".repeat(1000));
    let output = project
        .procref(&USE)
        .env("PATH", long)
        .output()
        .expect("run procref");
    let stderr = output_text(&output).1;
    assert_first_line(&stderr, &["could not execute `no-such-initdb`"]);
}

#[test]
fn unexecutable_init_program_is_named_in_the_first_line() {
    let workspace = Workspace::new();
    let project = project(&workspace, "'./initdb {data}'");
    let initdb = project.dir.join("initdb");
    fs::write(&initdb, "#!/no/such/interpreter\n").expect("write a file");
    fails_with(&project, &USE, &["for `init`", "/initdb`", "denied"]);
    fs::set_permissions(&initdb, fs::Permissions::from_mode(0o755)).expect("chmod");
    fails_with(&project, &USE, &["for `init`", "/initdb`", "interpreter"]);
}

#[test]
fn init_exit_status_is_reported_in_the_first_line() {
    let workspace = Workspace::new();
    let project = project(&workspace, "['sh', '-c', 'echo disk is full; exit 3']");
    let stderr = fails_with(&project, &USE, &["exit status: 3", "`sh -c"]);
    assert!(stderr.contains("disk is full"), "{stderr}");

    project.configure(
        &fs::read_to_string(project.dir.join("procref.toml"))
            .expect("read procref.toml")
            .replace("exit 3", "kill -SEGV $$"),
    );
    fails_with(&project, &USE, &["SIGSEGV", "`sh -c"]);
}

/// A script with line breaks does not break the first line, and a long script does not hide the reason.
#[test]
fn init_script_is_shown_on_one_line() {
    let workspace = Workspace::new();
    let long = "true\n".repeat(2000);
    let project = project(&workspace, &format!("['sh', '-c', '''\n{long}exit 3''']"));
    fails_with(&project, &USE, &["exit status: 3", "`sh -c"]);
}

#[test]
fn init_timeout_is_reported_in_the_first_line() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        "['sh', '-c', 'while :; do echo busy; sleep 0.1; done']",
    );
    let args = ["run", "db", "--start-timeout", "3s", "--", "true"];
    let stderr = fails_with(&project, &args, &["3s", "`sh -c"]);
    assert!(stderr.contains("busy"), "{stderr}");
}

/// The kernel kills a process when the memory is exhausted, for example.
#[test]
fn killed_init_runner_is_reported_as_failed_init() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        "['sh', '-c', 'echo $PPID >procref.new; mv procref.new procref; sleep 600']",
    );
    let client = project
        .procref(&USE)
        .stderr(Stdio::piped())
        .spawn()
        .expect("run procref");
    let procref = deadline::until("init runs", || {
        fs::read_to_string(project.dir.join("procref")).ok()
    });
    live_process(&procref).kill();
    let output = client.wait_with_output().expect("wait for procref");
    let stderr = output_text(&output).1;
    assert_first_line(&stderr, &["`db`", "`init`", "SIGKILL", "`sh -c"]);
}

/// A program may exit with the code that procref uses for its own failures.
#[test]
fn service_exit_status_125_is_attributed_to_the_service() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.db]\nstart = ['sh', '-c', 'echo all is lost; exit 125']\ndata = 'data'\ninit = 'true'\n\
         ready = 'log:never'\n",
    );
    let (_, stderr) = project.failure(&USE);
    assert_first_line(&stderr, &["`sh` exited with status 125"]);
    assert!(stderr.contains("all is lost"), "{stderr}");
}

#[test]
fn missing_service_program_is_named_in_the_first_line() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.db]\nstart = 'no-such-server'\ndata = 'data'\nready = 'cmd:true'\n",
    );
    let (_, stderr) = project.failure(&USE);
    assert_first_line(&stderr, &["could not execute `no-such-server`"]);
}
