//! `procref hold` ends with its standard input, or with another process.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{
    PROCREF, create_gate, open_gate, output_text, path_text,
    sandbox::{Running, Sandbox, finish, wait_at_gate},
};

/// Starts `procref hold db` with these options.
fn hold(sandbox: &Sandbox, options: &[&str]) -> Running {
    let mut command = sandbox.procref("db");
    command.args(["hold", "db"]).args(sandbox.service("db"));
    Running::new(command.args(options))
}

/// A process that exits when the test kills it.
struct Editor(Running, Identity);

impl Editor {
    fn new(sandbox: &Sandbox) -> Self {
        let running = Running::new(sandbox.command("sleep").arg("3600"));
        let identity = running.identity();
        Self(running, identity)
    }

    fn pid(&self) -> String {
        self.1.pid.to_string()
    }

    fn kill(mut self) {
        self.1.kill();
        self.0.wait();
    }
}

#[test]
fn hold_stdin_releases_the_service_at_end_of_input() {
    let sandbox = Sandbox::new();
    let mut hold = hold(&sandbox, &["--stdin"]);
    let instance = sandbox.instance_in(&hold.line());
    hold.send("input that is not the end\n");
    assert!(!hold.identity().exits_within(Duration::from_millis(300)));
    assert!(instance.is_live());
    assert_eq!(hold.close_stdin_and_wait().code(), Some(0));
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_stdin_releases_the_service_when_the_writer_is_killed() {
    let sandbox = Sandbox::new();
    let words = [&["hold", "db", "--stdin"][..], &[]].concat();
    let hold = support::sandbox::shell_command(&sandbox, &words, "db");
    sandbox.register("db");
    let script = format!("sleep 3600 | {hold}");
    let mut pipeline = Running::new(sandbox.command("sh").args(["-c", &script]));
    let instance = sandbox.instance_in(&pipeline.line());
    let children = pipeline.identity().children();
    let writer = children
        .into_iter()
        .find(|child| child.command_line().starts_with(b"sleep"));
    writer.expect("the writer").kill();
    assert_eq!(pipeline.wait().code(), Some(0));
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_for_pid_releases_the_service_when_the_process_exits() {
    let sandbox = Sandbox::new();
    let editor = Editor::new(&sandbox);
    let mut hold = hold(&sandbox, &["--for-pid", &editor.pid()]);
    let instance = sandbox.instance_in(&hold.line());
    assert!(!hold.identity().exits_within(Duration::from_millis(300)));
    editor.kill();
    assert_eq!(hold.wait().code(), Some(0));
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_for_pid_of_a_zombie_or_exited_process_fails_and_starts_nothing() {
    let sandbox = Sandbox::new();
    let mut child = Command::new("true").spawn().expect("run a program");
    let pid = child.id();
    let hold = || {
        let mut command = sandbox.procref("db");
        command.args(["hold", "db", "--for-pid", &pid.to_string()]);
        finish(command.args(sandbox.service("db")))
    };
    if let Some(zombie) = Identity::of(pid) {
        zombie.wait_exit();
    }
    let zombie = hold();
    child.wait().expect("reap the child");
    for done in [zombie, hold()] {
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.err.contains(&format!("process {pid}")), "{done:?}");
        assert!(done.err.contains("no such process"), "{done:?}");
    }
    for wrong in ["0", "-1", "x", "4294967296"] {
        let done = sandbox.run("db", &["hold", "db", "--for-pid", wrong]);
        assert_eq!(done.code, Some(2), "{done:?}");
    }
    sandbox.assert_stopped("db", 0);
}

/// The kernel gives the pid of the exited process to another process while `hold` runs.
#[test]
fn g5_hold_for_pid_ends_although_the_pid_is_reused() {
    let sandbox = Sandbox::new();
    let service = sandbox.service("db");
    let service = shell_words::join(&service);
    // `ns_last_pid` decides which pid the next process gets in this pid namespace.
    let script = format!(
        "sleep 3600 & pid=$!
         {PROCREF} hold db --for-pid $pid {service} >held & hold=$!
         until grep -q pid held; do sleep 0.01; done
         kill -KILL $pid; wait $pid
         echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
         sleep 3601 & test $! -eq $pid || exit 77
         wait $hold; code=$?
         {PROCREF} wait db --stopped --allow-unknown --timeout 60s || exit 79
         grep -qs 3601 /proc/$pid/cmdline || exit 78
         kill $pid
         exit $code"
    );
    let mut command = sandbox.command("unshare");
    command.args(support::user_namespace()).args([
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        &script,
    ]);
    let output = command.output().expect("run unshare");
    let (out, err) = output_text(&output);
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
}

/// The service waits at a gate, so `hold` still acquires it.
#[test]
fn hold_gives_up_the_acquire_at_the_end_of_input_or_process() {
    for by_process in [false, true] {
        let sandbox = Sandbox::new();
        let gate = create_gate(sandbox.path("gate"));
        let begun = sandbox.path("begun");
        let code = format!("echo $$ >{}; {}", path_text(&begun), wait_at_gate(&gate));
        let editor = Editor::new(&sandbox);
        let mut command = sandbox.procref("db");
        command
            .args(["hold", "db", "--stdin", "--for-pid", &editor.pid()])
            .args(sandbox.service_after("db", &code))
            .stderr(Stdio::piped());
        let mut hold = Running::new(&mut command);
        let started = deadline::until("the service's process runs", || {
            let text = fs::read_to_string(&begun).ok()?;
            Identity::of(text.trim().parse().ok()?)
        });
        let stderr = hold.child.stderr.take().expect("a pipe");
        let (code, what) = match by_process {
            true => {
                let pid = editor.pid();
                editor.kill();
                (hold.wait().code(), format!("process {pid} exited"))
            }
            false => {
                let code = hold.close_stdin_and_wait().code();
                editor.kill();
                (code, "the standard input ended".to_owned())
            }
        };
        assert_eq!(code, Some(0));
        let stderr = std::io::read_to_string(stderr).expect("read the errors");
        let expected = format!("{what} before service `db` was acquired");
        assert!(stderr.contains(&expected), "{stderr}");
        started.wait_exit();
        sandbox.assert_stopped("db", 0);
    }
}

/// Another client starts the service, and `hold` waits for it.
#[test]
fn hold_gives_up_its_wait_for_another_client() {
    let sandbox = Sandbox::new();
    let gate = create_gate(sandbox.path("gate"));
    let service = sandbox.service_after("db", &wait_at_gate(&gate));
    let starter = sandbox.run_client("db", &service, support::sandbox::HOLD);
    deadline::until_true("the first client starts the service", || {
        let done = sandbox.run("db", &["status", "db", "--json"]);
        done.out.contains(r#""state":"starting""#)
    });
    let mut command = sandbox.procref("db");
    let hold = Running::new(command.args(["hold", "db", "--stdin"]).args(&service));
    assert!(!hold.identity().exits_within(Duration::from_millis(300)));
    assert_eq!(hold.close_stdin_and_wait().code(), Some(0));
    open_gate(&gate);
    assert_eq!(starter.line(), "held");
    let status = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(status["clients"], 1);
    starter.release();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_ends_on_a_signal_while_it_waits_for_input_and_process() {
    let sandbox = Sandbox::new();
    let editor = Editor::new(&sandbox);
    let mut hold = hold(&sandbox, &["--stdin", "--for-pid", &editor.pid()]);
    let instance = sandbox.instance_in(&hold.line());
    hold.identity().signal(Signal::TERM);
    assert_eq!(hold.wait().code(), Some(0));
    instance.wait_exit();
    editor.kill();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_reports_how_the_service_exited() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.procref("db");
    command.args(["hold", "db"]).args(sandbox.service("db"));
    command.stderr(Stdio::piped());
    let mut hold = Running::new(&mut command);
    let instance = sandbox.instance_in(&hold.line());
    let stderr = hold.child.stderr.take().expect("a pipe");
    instance.signal(Signal::KILL);
    assert_eq!(hold.wait().code(), Some(1));
    let stderr = std::io::read_to_string(stderr).expect("read the errors");
    assert!(stderr.contains("killed by signal 9"), "{stderr}");
}

#[test]
fn hold_uses_no_processor_time_while_it_waits() {
    let sandbox = Sandbox::new();
    let editor = Editor::new(&sandbox);
    let hold = hold(&sandbox, &["--stdin", "--for-pid", &editor.pid()]);
    hold.line();
    let process = hold.identity();
    let switches = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.pid)).expect("list the threads");
        let tasks = tasks.map(|task| task.expect("a thread").path().join("status"));
        let counts = tasks.map(|status| {
            let text = fs::read_to_string(status).expect("read the status");
            let line = text.lines().find(|it| it.starts_with("voluntary_ctxt"));
            let count = line.and_then(|line| line.split_whitespace().nth(1));
            count
                .and_then(|count| count.parse::<u64>().ok())
                .expect("a count")
        });
        counts.sum::<u64>()
    };
    // The threads may still be on their way to sleep.
    std::thread::sleep(Duration::from_millis(200));
    let before = switches();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(switches(), before, "a thread woke up without an event");
    editor.kill();
    drop(hold);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_json_has_generation_and_variables() {
    let sandbox = Sandbox::new();
    let mut hold = hold(&sandbox, &["--stdin", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&hold.line()).expect("JSON");
    assert_eq!(json["generation"], 1);
    let (pid, dir) = (json["pid"].to_string(), path_text(&sandbox.runtime_dir()));
    let expected = serde_json::json!({
        "PROCREF_NAME": "db",
        "PROCREF_PID": pid,
        "PROCREF_PID_DB": pid,
        "PROCREF_DIR": dir,
        "PROCREF_DIR_DB": dir,
    });
    assert_eq!(json["env"], expected);
    hold.send("\n");
    assert_eq!(hold.close_stdin_and_wait().code(), Some(0));
    sandbox.assert_stopped("db", 1);
}
