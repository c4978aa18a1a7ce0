//! Health checks at every join, and the errors about a service that is not ready, unhealthy or dead.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::fs;

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{
    path_text,
    sandbox::{Finished, Running, Sandbox, finish},
    workspace::Workspace,
};

/// Returns the options of a web server that answers `/health` while that file exists.
///
/// The shell code `setup` may create the file, whose path replaces `HEALTH`.
fn web(sandbox: &Sandbox, setup: &str) -> Vec<String> {
    let dir = sandbox.path("web");
    fs::create_dir_all(&dir).expect("create a directory");
    let dir = dir.display();
    let server = server::command();
    let start = format!("sh -c '{setup}; exec {server} {{port}} {dir}'");
    let start = start.replace("HEALTH", &format!("{dir}/health"));
    ["--start", &start].map(str::to_owned).to_vec()
}

/// Starts a client that holds the service, and returns the client and the process of the service.
fn hold(sandbox: &Sandbox, options: &[String]) -> (Running, Identity) {
    let client = sandbox.run_client("web", options, "echo $PROCREF_PID; read x");
    let service = client.process_in_line();
    (client, service)
}

/// Runs a client that joins or starts the service, and prints the pid of the service.
fn join(sandbox: &Sandbox, options: &[String], more: &[&str]) -> Finished {
    let mut words = vec!["run", "web"];
    words.extend(options.iter().map(String::as_str));
    words.extend(more);
    words.extend(["--", "sh", "-c", "echo $PROCREF_PID"]);
    sandbox.run("web", &words)
}

#[test]
fn g4_unhealthy_service_is_replaced_when_a_client_joins() {
    let sandbox = Sandbox::new();
    let options = web(&sandbox, ": > HEALTH");
    let (holder, first) = hold(&sandbox, &options);
    let health = ["--health", "http:/health", "--health-timeout", "10s"];
    let pid = |done: &Finished| done.out.trim().parse::<u32>().expect("a pid");
    let healthy = join(&sandbox, &options, &health);
    assert_eq!(
        (healthy.code, pid(&healthy)),
        (Some(0), first.pid),
        "{healthy:?}"
    );
    fs::remove_file(sandbox.path("web/health")).expect("remove the file");
    let unchecked = join(&sandbox, &options, &[]);
    assert_eq!(pid(&unchecked), first.pid, "{unchecked:?}");
    let health = ["--health", "http:/health", "--health-timeout", "300ms"];
    let unhealthy = join(&sandbox, &options, &health);
    assert_eq!(unhealthy.code, Some(0), "{unhealthy:?}");
    assert_ne!(
        pid(&unhealthy),
        first.pid,
        "a client holds the unhealthy service"
    );
    for part in ["HTTP GET /health", "HTTP 404", "restarting the service"] {
        assert!(unhealthy.err.contains(part), "{part}: {}", unhealthy.err);
    }
    first.wait_exit();
    drop(holder);
}

#[test]
fn g4_health_check_that_never_passes_fails_the_start() {
    let sandbox = Sandbox::new();
    let options = web(&sandbox, ":");
    let health = ["--health", "http:/health", "--health-timeout", "300ms"];
    let done = join(&sandbox, &options, &health);
    assert_eq!(done.code, Some(125), "{done:?}");
    for part in ["its health check, HTTP GET /health", "HTTP 404", "300ms"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    sandbox.assert_nothing_left();
}

#[test]
fn g4_health_check_replaces_suspended_and_failing_services() {
    let sandbox = Sandbox::new();
    let options = web(&sandbox, ": > HEALTH");
    let (holder, first) = hold(&sandbox, &options);
    first.signal(Signal::STOP);
    // The kernel accepts connections for a suspended service, so `tcp` succeeds and `http` fails.
    let tcp = join(&sandbox, &options, &["--health", "tcp"]);
    assert_eq!(tcp.out.trim(), first.pid.to_string(), "{tcp:?}");
    let health = [
        "--health",
        "http:/",
        "--health-timeout",
        "300ms",
        "--grace",
        "1s",
    ];
    let http = join(&sandbox, &options, &health);
    assert_eq!(http.code, Some(0), "{http:?}");
    assert!(http.err.contains("does not answer"), "{http:?}");
    first.wait_exit();
    drop(holder);

    let (holder, second) = hold(&sandbox, &options);
    let check = format!("cmd:test -e {}", sandbox.path("web/health").display());
    let health = ["--health", &check, "--health-timeout", "300ms"];
    assert_eq!(
        join(&sandbox, &options, &health).out.trim(),
        second.pid.to_string()
    );
    fs::remove_file(sandbox.path("web/health")).expect("remove the file");
    let command = join(&sandbox, &options, &health);
    assert_eq!(command.code, Some(0), "{command:?}");
    assert!(command.err.contains("exited with status 1"), "{command:?}");
    second.wait_exit();
    drop(holder);
}

#[test]
fn health_ready_repeats_the_readiness_check() {
    let workspace = Workspace::new();
    let health = workspace.path("health").display().to_string();
    let project = workspace.project(
        "project",
        &format!(
            "[services.s]\nstart = [\"sh\", \"-c\", \"touch {health}; exec sleep 1000\"]\n\
             ready = \"cmd:test -e {health}\"\nhealth = \"ready\"\nhealth-timeout = \"300ms\"\nlinger = \"1m\"\n"
        ),
    );
    let run = || {
        let mut command = workspace.procref(&project.dir);
        let done = finish(command.args(["run", "s", "--", "sh", "-c", "echo $PROCREF_PID"]));
        assert_eq!(done.code, Some(0), "{done:?}");
        (done.out, done.err)
    };
    let (first, _) = run();
    assert_eq!(run().0, first);
    fs::remove_file(&health).expect("remove the file");
    let (second, stderr) = run();
    assert_ne!(second, first);
    assert!(stderr.contains("`test -e"), "{stderr}");
    let mut stop = workspace.procref(&project.dir);
    assert_eq!(finish(stop.args(["stop", "s"])).code, Some(0));
}

#[test]
fn health_requires_start_and_a_repeatable_readiness() {
    let sandbox = Sandbox::new();
    let done = sandbox.run("web", &["run", "web", "--health", "tcp", "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(
        done.err.contains("`--health` needs `--start`"),
        "{}",
        done.err
    );
    let start = ["run", "web", "--start", "sleep 100", "--ready", "started"];
    let done = sandbox.run(
        "web",
        &[&start[..], &["--health", "ready", "--", "true"]].concat(),
    );
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err.contains("cannot be repeated"), "{}", done.err);
}

#[test]
fn service_without_readiness_warns_unless_ready_is_started() {
    let sandbox = Sandbox::new();
    let start = ["run", "s", "--start", "sleep 1000"];
    let done = sandbox.run("s", &[&start[..], &["--", "true"]].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        done.err.matches("neither a port nor `ready`").count(),
        1,
        "{done:?}"
    );
    sandbox.assert_nothing_left();
    let started = [&start[..], &["--ready", "started", "--", "true"]].concat();
    let done = sandbox.run("s", &started);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    sandbox.assert_nothing_left();
    // The same applies when the service has a data directory, which procref locks before it executes the program.
    let workspace = Workspace::new();
    let config = "[services.s]\nstart = 'sleep 1000'\ndata = 'd'\n";
    let project = workspace.project("project", config);
    let mut command = workspace.procref(&project.dir);
    let done = finish(command.args(["run", "s", "--", "true"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        done.err.matches("neither a port nor `ready`").count(),
        1,
        "{done:?}"
    );
}

#[test]
fn g4_service_exiting_right_after_start_fails_the_start() {
    let sandbox = Sandbox::new();
    for start in [
        "sh -c \"echo wrong argument; exit 3\"",
        "sh -c \"echo wrong argument; sleep 0.05; exit 3\"",
    ] {
        for ready in [&[][..], &["--ready", "started"]] {
            let words = [
                &["run", "s", "--start", start],
                ready,
                &["--", "touch", "ran"],
            ]
            .concat();
            let done = sandbox.run("s", &words);
            assert_eq!(done.code, Some(125), "{done:?}");
            for part in ["exited with status 3", "wrong argument"] {
                assert!(done.err.contains(part), "{part}: {}", done.err);
            }
            assert!(!sandbox.path("here/ran").exists());
        }
    }
    // The same applies when the service has a data directory, which procref locks before it executes the program.
    let workspace = Workspace::new();
    let config =
        "[services.s]\nstart = ['sh', '-c', 'sleep 0.05; exit 3']\ndata = 'd'\nready = 'started'\n";
    let project = workspace.project("project", config);
    let mut command = workspace.procref(&project.dir);
    let done = finish(command.args(["run", "s", "--", "true"]));
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(done.err.contains("exited with status 3"), "{done:?}");
}

#[test]
fn run_does_not_execute_its_client_when_a_dependency_died() {
    let workspace = Workspace::new();
    let pid = workspace.path("pid").display().to_string();
    // The readiness check kills the dependency, and succeeds when the dependency is gone.
    let ready = format!("P=$(cat {pid}); kill -9 $P; while kill -0 $P; do sleep 0.01; done; true");
    let project = workspace.project(
        "project",
        &format!(
            "[services.dependency]\n\
             start = ['sh', '-c', 'echo $$ > {pid}; echo last words; exec sleep 1000']\n\
             ready = 'started'\n\
             [services.s]\n\
             start = 'sleep 1000'\n\
             ready = 'cmd:sh -c \"{ready}\"'\n\
             depends-on = ['dependency']\n"
        ),
    );
    let mut command = workspace.procref(&project.dir);
    let done = finish(command.args(["run", "s", "--", "touch", "ran"]));
    assert_eq!(done.code, Some(125), "{done:?}");
    for part in ["`dependency` has exited", "last words"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    assert!(!project.dir.join("ran").exists());
    // The dependent was the last holder of the dead service, and has stopped. Only `gc` removes the leftovers.
    deadline::until_true("gc has removed the leftovers", || {
        let mut gc = workspace.procref(&project.dir);
        assert_eq!(finish(gc.args(["gc"])).code, Some(0));
        workspace.leftovers().is_empty()
    });
}

#[test]
fn daemonizing_program_fails_the_start_and_names_the_option() {
    let sandbox = Sandbox::new();
    let server = server::command();
    // A program of this name starts a daemon and exits, at once or when the daemon answers.
    let path = sandbox.path("redis-server");
    let program = path.display();
    for wait in [
        ":",
        "until bash -c '</dev/tcp/127.0.0.1/'$1 2>/dev/null; do sleep 0.01; done",
    ] {
        let script = format!("#!/bin/sh\n{server} $1 & {wait}\n");
        fs::write(&path, script).expect("write the program");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("chmod");
        let start = format!("{program} {{port}}");
        let log = "while ! grep -q left LOG; do sleep 0.02; done; cat LOG";
        let log = log.replace("LOG", &sandbox.path("log").display().to_string());
        let done = sandbox.run(
            "d",
            &[
                "run",
                "d",
                "--log",
                path_text(&sandbox.path("log")).as_str(),
                "--start",
                &start,
                "--",
                "sh",
                "-c",
                &log,
            ],
        );
        // If the daemon is ready before the program exits, the client runs, and prints the message from the log.
        let message = match done.code {
            Some(0) => &done.out,
            _ => &done.err,
        };
        assert!(
            message.contains("foreground") && message.contains("--daemonize no"),
            "{done:?}"
        );
        // If the server was ready before its program exited, the service died. A dead service without clients stays until
        // its next client or `gc`.
        if done.code == Some(0) {
            deadline::until_true("gc leaves nothing", || {
                sandbox.stdout("d", &["gc"]);
                sandbox.files().is_empty()
            });
        }
        sandbox.assert_nothing_left();
        let _ = fs::remove_file(sandbox.path("log"));
    }
}
