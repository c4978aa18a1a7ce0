//! `procref run`: the client receives the service and is otherwise unchanged.

#![cfg(target_os = "linux")]

mod server;
mod support;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use procref_testkit::observe::Identity;
use procref_testkit::{deadline, kernel};
use rustix::process::Signal;
use support::{
    PROCREF, path_text,
    sandbox::{Running, Sandbox, finish},
};

#[test]
fn shell_command_gets_the_exports_of_the_service() {
    let sandbox = Sandbox::new();
    let config = "shared = true\n[services.db]\nstart = 'sleep 3600'\nready = 'started'\nport = 'auto'\n\
                  export = { URL = 'x://{port}' }\n";
    fs::write(sandbox.path("here/procref.toml"), config).expect("write procref.toml");
    let text = "echo \"$PROCREF_NAME $URL\" | tr a-z A-Z; exit 7";
    let done = sandbox.run("db", &["run", "db", "-c", text]);
    assert_eq!(done.code, Some(7), "{done:?}");
    let port = done.out.strip_prefix("DB X://").expect("the variables");
    assert!(port.trim_end().parse::<u16>().is_ok(), "{done:?}");
    let done = sandbox.run("db", &["run", "db", "-c", "echo {port}"]);
    assert_eq!(done.out, "{port}\n");
    assert!(done.err.contains("use $PROCREF_PORT"), "{done:?}");
    let done = sandbox.run("db", &["run", "db", "-c", "true", "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
}

#[test]
fn clients_share_one_instance_and_the_last_one_stops_it() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let holders: Vec<_> = (0..5).map(|_| sandbox.hold("db", &options)).collect();
    let instance = sandbox.instance("db");
    assert_eq!(
        sandbox.json("db", &["status", "db", "--json"])["clients"],
        5
    );
    for holder in holders {
        assert!(instance.is_live());
        holder.leave();
    }
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn run_executes_the_client_and_passes_its_status_on() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    assert_eq!(holder.client.pid, holder.running.child.id());
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 125", 125)] {
        let mut command = sandbox.procref("db");
        let done = finish(command.args(["run", "db", "--", "sh", "-c", script]));
        assert_eq!(done.code, Some(code), "{done:?}");
    }
    let mut command = sandbox.procref("db");
    command.args(["run", "db", "--", "sh", "-c", "kill -USR1 $$"]);
    let status = command.status().expect("run the command");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(10)
    );
    holder.leave();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn g2_killed_client_releases_its_reference() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let (one, two) = (sandbox.hold("db", &options), sandbox.hold("db", &options));
    let instance = sandbox.instance("db");
    one.kill();
    deadline::until_true("one client holds the service", || {
        sandbox.json("db", &["status", "db", "--json"])["clients"] == 1
    });
    assert!(instance.is_live());
    two.kill();
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn client_environment_and_placeholders_name_the_service() {
    let sandbox = Sandbox::new();
    let name = "my db";
    let start = format!("{} {{port}}", server::command());
    let script = r#"echo "$PROCREF_NAME|$PROCREF_PORT|$PROCREF_PID|$PROCREF_DIR|$PROCREF_PORT_MY_DB"; echo "$@""#;
    let mut command = sandbox.procref(name);
    command.args([
        "run", name, "--start", &start, "--fill", "--", "sh", "-c", script, "sh",
    ]);
    command.args([
        "{port}",
        "{name}:{pid}",
        "{{port}}",
        "${x} {\"a\": {}} {print} {dir}/x",
        "{my db.port}",
    ]);
    // These variables describe the service of an outer client.
    command
        .env("PROCREF_META_OLD", "1")
        .env("PROCREF_PORT", "1");
    let done = finish(&mut command);
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    let values: Vec<&str> = lines[0].split('|').collect();
    let (port, pid, dir) = (values[1], values[2], path_text(&sandbox.runtime_dir()));
    assert!(port.parse::<u16>().is_ok_and(|port| port > 1), "{values:?}");
    assert_eq!(
        (values[0], values[3], values[4]),
        (name, dir.as_str(), port)
    );
    let expected =
        format!("{port} {name}:{pid} {{port}} ${{x}} {{\"a\": {{}}}} {{print}} {dir}/x {port}");
    assert_eq!(lines[1], expected);
}

#[test]
fn environment_has_no_port_when_the_service_has_none() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let mut command = sandbox.procref("db");
    command
        .args(["run", "db"])
        .args(&options)
        .env("PROCREF_PORT", "1");
    command.args(["--", "sh", "-c", "echo ${PROCREF_PORT-none}"]);
    assert_eq!(finish(&mut command).out, "none\n");
    sandbox.assert_stopped("db", 1);
}

#[test]
fn service_receives_its_chosen_port_in_the_environment() {
    let sandbox = Sandbox::new();
    let start = format!("sh -c 'exec {} $PORT'", server::command());
    let mut command = sandbox.procref("web");
    command.args([
        "run", "web", "--port", "auto", "--ready", "http:/", "--start", &start,
    ]);
    let done = finish(command.args(["--", "sh", "-c", "echo $PROCREF_PORT"]));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.out.trim().parse::<u16>().is_ok_and(|port| port > 0),
        "{done:?}"
    );
}

/// procref does not change the descriptors, signals, session and terminal of the client.
#[test]
fn client_inherits_only_the_callers_descriptors_and_signals() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    // The shell ignores one signal and opens one descriptor, which the client must inherit.
    let show =
        "ls -l /proc/self/fd | sed 's/.*-> //'; grep -E 'SigBlk|SigIgn' /proc/self/status; cat <&7";
    let outer = format!(
        "trap '' USR2; echo passed >{file}; exec 7<{file}; {show}; echo ==; \
         {PROCREF} run db -- sh -c \"{show2}\"",
        file = sandbox.path("passed").display(),
        show2 = show.replace('"', "\\\"").replace("cat <&7", "cat {file}"),
    );
    let outer = outer.replace("{file}", &path_text(&sandbox.path("passed")));
    let done = finish(sandbox.command("sh").args(["-c", &outer]));
    assert_eq!(done.code, Some(0), "{done:?}");
    let (without, with) = done.out.split_once("==\n").expect("two parts");
    let plain = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| line.split(['[', '/']).next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(plain(with), plain(without));
    holder.leave();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn client_receives_sigpipe_when_its_output_closes() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    let script = format!("{PROCREF} run db -- sh -c 'yes; echo $? >&2' | head -n 1");
    let done = finish(sandbox.command("sh").args(["-c", &script]));
    assert_eq!(done.err.trim(), "141", "SIGPIPE is ignored: {done:?}");
    holder.leave();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn client_that_cannot_be_executed_is_reported_and_released() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let file = sandbox.path("not executable");
    fs::write(&file, "").expect("write a file");
    for (client, code) in [
        ("/no/such/client", 127),
        ("no-such-client", 127),
        (file.to_str().expect("text"), 126),
    ] {
        let mut command = sandbox.procref("db");
        let done = finish(
            command
                .args(["run", "db"])
                .args(&options)
                .args(["--", client]),
        );
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.err.contains(client), "{}", done.err);
        sandbox.assert_nothing_left();
    }
    sandbox.assert_stopped("db", 3);
}

#[test]
fn run_exits_125_when_the_client_is_not_executed() {
    let sandbox = Sandbox::new();
    for (options, stderr) in [
        (
            &[
                "--start",
                "sh -c 'echo I cannot; exit 3'",
                "--ready",
                "log:never",
            ][..],
            "I cannot",
        ),
        (&["--start", "/no/such/service"], "/no/such/service"),
        (
            &[
                "--start",
                "sleep 100",
                "--ready",
                "log:never",
                "--start-timeout",
                "200ms",
            ],
            "not ready",
        ),
        (&["--start", "''"], "names no program"),
        (&["--port", "0"], "0 is not a valid port"),
        (&[], "is not running"),
    ] {
        let mut command = sandbox.procref("bad");
        let done = finish(
            command
                .args(["run", "bad"])
                .args(options)
                .args(["--", "true"]),
        );
        assert_eq!(done.code, Some(125), "{done:?}");
        assert!(done.err.contains(stderr), "{stderr}: {}", done.err);
    }
    let done = sandbox.run("bad", &["run", "bad", "--no-such-option", "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
    let name = "x".repeat(256);
    let done = sandbox.run("", &["run", &name, "--start", "sleep 1", "--", "true"]);
    assert_eq!(done.code, Some(125), "{done:?}");
}

#[test]
fn run_accepts_any_service_name() {
    let sandbox = Sandbox::new();
    let long = "ü".repeat(127);
    for name in [
        "a name with spaces",
        "../../etc/passwd",
        "--",
        "-n",
        "名前\n\u{1b}[31m",
        &long,
    ] {
        let start = "sleep 3600";
        let mut command = sandbox.procref(name);
        command.args(["run", "--start", start, "--", name, "--", "true"]);
        let done = finish(&mut command);
        // The client follows `--`, so a name that looks like an option cannot follow `--`.
        if name.starts_with('-') {
            assert_eq!(done.code, Some(125), "{name}: {done:?}");
            continue;
        }
        let mut command = sandbox.procref(name);
        let done = finish(command.args([
            "run",
            name,
            "--start",
            start,
            "--",
            "sh",
            "-c",
            "echo $PROCREF_NAME",
        ]));
        assert_eq!(done.code, Some(0), "{done:?}");
        sandbox.assert_nothing_left();
    }
}

/// An interactive shell creates a process group for each job.
#[test]
fn client_in_its_own_process_group_stays_one_process() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(&options).process_group(0);
    command
        .args(["--", "sh", "-c", "echo held; read line"])
        .stdout(Stdio::piped());
    let running = Running::new(&mut command);
    assert_eq!(running.line(), "held");
    let pid = running.child.id();
    assert_eq!(running.identity().group(), i64::from(pid));
    running.identity().signal(Signal::TERM);
    drop(running);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn daemonized_process_is_no_longer_a_client() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(&options);
    let done = finish(command.args([
        "--",
        "sh",
        "-c",
        "setsid sleep 3600 >/dev/null 2>&1 & echo $!",
    ]));
    let daemon: u32 = done.out.trim().parse().expect("a pid");
    // The daemon's parent was the client, which has exited.
    sandbox.assert_stopped("db", 1);
    let daemon = Identity::of(daemon).expect("a live daemon");
    daemon.kill();
}

/// The supervisor of `inner` is a child of the supervisor of `outer`.
///
/// The supervisor of `outer` stops all processes that `outer` leaves, except services that other clients hold.
#[test]
fn nested_service_survives_its_starter_while_held() {
    let sandbox = Sandbox::new();
    let inner = sandbox.service("inner");
    let mut outer = vec!["--start".to_owned()];
    let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
    let words: Vec<_> = inner.iter().map(quoted).collect();
    let nested = format!(
        "{PROCREF} run inner {} -- sh -c 'echo ready; sleep 3600'",
        words.join(" ")
    );
    outer.push(nested);
    outer.extend(["--ready", "log:^ready$"].map(str::to_owned));

    let client = sandbox.hold("outer", &outer);
    let instance = sandbox.instance("inner");
    let other = sandbox.hold("inner", &inner);
    client.leave();
    let outer_key = sandbox.key("outer");
    deadline::until_true("the outer service is gone", || {
        kernel::find(outer_key).is_none()
    });
    assert!(instance.is_live(), "{:?}", sandbox.history("inner"));
    assert_eq!(sandbox.history("inner").len(), 1);
    other.leave();
    instance.wait_exit();
    sandbox.assert_stopped("inner", 1);
}
