//! The success and the failure of each command, with the real program.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use procref_testkit::deadline;
use procref_testkit::scene::write_private;
use rustix::process::Signal;
use support::{
    PROCREF, create_gate, path_text,
    sandbox::{Running, Sandbox, finish},
};

#[test]
fn ps_lists_running_services_only() {
    let sandbox = Sandbox::new();
    let done = sandbox.run("", &["ps"]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""));
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    let pid = sandbox.instance("db").pid.to_string();
    let table = sandbox.stdout("db", &["ps"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(row[..4], ["db", "ready", "1", pid.as_str()]);
    assert!(!table.contains('\u{1b}'), "no colors in a pipe");
    let colors = sandbox.stdout("db", &["ps", "--color", "always"]);
    assert!(colors.contains("\u{1b}["), "{colors:?}");
    let listed = &sandbox.json("db", &["ps", "--json"])["services"][0];
    assert_eq!(
        (&listed["name"], &listed["clients"]),
        (&"db".into(), &1.into())
    );
    assert_eq!(listed["holders"][0]["pid"], holder.client.pid);
    holder.leave();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn ps_watch_prints_every_change_once() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.procref("db");
    let watcher = Running::new(command.args(["ps", "--watch", "--json", "--interval", "20ms"]));
    assert_eq!(watcher.line(), r#"{"services":[]}"#);
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    watcher.line_containing(r#""state":"ready""#);
    holder.leave();
    while watcher.line() != r#"{"services":[]}"# {}
    sandbox.assert_stopped("db", 1);
}

#[test]
fn status_lists_holders_and_exits_3_when_not_running() {
    let sandbox = Sandbox::new();
    for args in [&["status", "db"][..], &["status", "db", "--json"]] {
        let done = sandbox.run("db", args);
        assert_eq!(done.code, Some(3), "{done:?}");
        assert!(done.err.contains("`db` is not running"), "{}", done.err);
    }
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    let text = sandbox.stdout("db", &["status", "db"]);
    assert!(
        text.contains(&format!("pid {}, running for", holder.client.pid)),
        "{text}"
    );
    let json = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(json["state"], "ready");
    assert_eq!(json["pid"], sandbox.instance("db").pid);
    // A service whose process is dead does not run.
    let instance = sandbox.instance("db");
    instance.kill();
    deadline::until_true("the status shows how the service ended", || {
        sandbox
            .run("db", &["status", "db"])
            .out
            .contains("killed by signal 9")
    });
    assert_eq!(sandbox.run("db", &["status", "db"]).code, Some(3));
    holder.leave();
    sandbox.run("db", &["gc"]);
    sandbox.assert_nothing_left();
}

#[test]
fn missing_record_is_reported_to_clients_and_not_by_status() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    let files = sandbox.files();
    let is_record = |path: &&PathBuf| path.extension().is_some_and(|it| it == "json");
    let record = files.iter().find(is_record).expect("a record");
    fs::remove_file(record).expect("remove the record");
    // A record is also missing while the service starts or stops.
    let status = sandbox.run("db", &["status", "db"]);
    assert_eq!(
        (status.code, status.err.as_str()),
        (Some(0), ""),
        "{status:?}"
    );
    let joined = sandbox.run("db", &["run", "db", "--", "true"]);
    assert_eq!(joined.code, Some(0), "{joined:?}");
    assert!(joined.err.contains("the record is missing"), "{joined:?}");
    holder.leave();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn pin_keeps_a_service_until_unpin_stops_it() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.procref("db");
    let done = finish(
        command
            .args(["pin", "db", "--json"])
            .args(sandbox.service("db")),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    let instance = sandbox.instance("db");
    let report: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(report["pid"], instance.pid);
    let json = sandbox.json("db", &["status", "db", "--json"]);
    assert_eq!(
        (&json["pinned"], &json["clients"]),
        (&true.into(), &0.into())
    );
    // Clients find the service without knowing how it is started.
    assert_eq!(
        sandbox.run("db", &["run", "db", "--", "true"]).code,
        Some(0)
    );
    assert!(instance.is_live());
    assert_eq!(
        sandbox.json("db", &["unpin", "db", "--json"])["unpinned"],
        true
    );
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
    for command in ["unpin", "pin"] {
        let done = sandbox.run("db", &[command, "db"]);
        assert_eq!(done.code, Some(3), "no file has the name: {done:?}");
    }
}

#[test]
fn stop_refuses_a_held_service_and_names_its_clients() {
    let sandbox = Sandbox::new();
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    let instance = sandbox.instance("db");
    let done = sandbox.run("db", &["stop", "db"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    let pid = format!("pid {}, running for", holder.client.pid);
    for part in ["1 client holds it", pid.as_str(), "read -r line", "--force"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    assert!(instance.is_live());
    assert_eq!(
        sandbox.json("db", &["stop", "db", "--force", "--json"])["stopped"],
        true
    );
    assert!(
        !instance.is_live(),
        "`stop` returned before the service exited"
    );
    assert!(holder.client.is_live(), "`stop` ended a client");
    let listed = &sandbox.json("db", &["ps", "--json"])["services"][0];
    assert_eq!(
        (&listed["name"], &listed["clients"]),
        (&"db".into(), &1.into())
    );
    assert!(sandbox.stdout("db", &["ps"]).contains("\ndb "));
    holder.leave();
    sandbox.assert_stopped("db", 1);
    let done = sandbox.run("db", &["stop", "db"]);
    assert_eq!(done.code, Some(3), "no file has the name: {done:?}");
    assert!(done.err.contains("is not running"), "{done:?}");
}

#[test]
fn stop_escapes_control_characters_of_a_name() {
    let sandbox = Sandbox::new();
    let name = "d\u{7}b";
    let holder = sandbox.hold(name, &sandbox.service(name));
    let refused = sandbox.run(name, &["stop", name]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let stopped = sandbox.run(name, &["stop", name, "--force"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    for text in [refused.err, stopped.err] {
        assert!(text.contains("`d\\u{7}b`"), "{text:?}");
        assert!(!text.contains('\u{7}'), "{text:?}");
    }
    holder.leave();
    sandbox.assert_nothing_left();
}

#[test]
fn stop_ends_a_pinned_or_lingering_service() {
    for options in [&["--linger", "1h"][..], &[]] {
        let sandbox = Sandbox::new();
        let verb = if options.is_empty() { "pin" } else { "run" };
        let mut command = sandbox.procref("db");
        command
            .args([verb, "db"])
            .args(options)
            .args(sandbox.service("db"));
        if verb == "run" {
            command.args(["--", "true"]);
        }
        assert_eq!(finish(&mut command).code, Some(0));
        assert!(sandbox.instance("db").is_live());
        sandbox.stdout("db", &["stop", "db"]);
        sandbox.assert_stopped("db", 1);
    }
}

#[test]
fn hold_exits_0_on_a_signal_and_1_when_the_service_dies() {
    let sandbox = Sandbox::new();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = sandbox.interruptible_procref("db");
        command.args(["hold", "db"]).args(sandbox.service("db"));
        let mut hold = Running::new(&mut command);
        let instance = sandbox.instance_in(&hold.line());
        hold.identity().signal(signal);
        assert_eq!(hold.wait().code(), Some(0));
        instance.wait_exit();
        sandbox.assert_nothing_left();
    }
    let mut command = sandbox.procref("db");
    command
        .args(["hold", "db"])
        .args(sandbox.service("db"))
        .stderr(Stdio::piped());
    let mut hold = Running::new(&mut command);
    let instance = sandbox.instance_in(&hold.line());
    instance.kill();
    assert_eq!(hold.wait().code(), Some(1));
    let stderr = std::io::read_to_string(hold.child.stderr.take().expect("a pipe"));
    assert!(
        stderr
            .expect("read the messages")
            .contains("`db` has exited")
    );
}

#[test]
fn wait_returns_when_the_service_is_ready_or_stopped() {
    let sandbox = Sandbox::new();
    let done = sandbox.run(
        "db",
        &["wait", "db", "--allow-unknown", "--timeout", "100ms"],
    );
    assert_eq!(done.code, Some(5), "{done:?}");
    let mut command = sandbox.procref("db");
    let mut ready = Running::new(command.args(["wait", "db", "--allow-unknown", "--json"]));
    let options = sandbox.service("db");
    let holder = sandbox.hold("db", &options);
    let report: serde_json::Value = serde_json::from_str(&ready.line()).expect("JSON");
    assert_eq!(report["pid"], sandbox.instance("db").pid);
    assert_eq!(ready.wait().code(), Some(0));
    let done = sandbox.run("db", &["wait", "db", "--stopped", "--timeout", "100ms"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    let mut command = sandbox.procref("db");
    // The service may be gone before the command looks up its name.
    let wait = ["wait", "db", "--stopped", "--allow-unknown"];
    let mut stopped = Running::new(command.args(wait));
    holder.leave();
    assert_eq!(stopped.wait().code(), Some(0));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn logs_print_last_lines_and_follow_until_the_service_stops() {
    let sandbox = Sandbox::new();
    let done = sandbox.run("db", &["logs", "db"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let messages = create_gate(sandbox.path("messages"));
    // The service prints the lines that it reads from the pipe.
    let code = format!("echo one; echo two; cat <>{} & :", path_text(&messages));
    let options = sandbox.service_after("db", &code);
    let holder = sandbox.hold("db", &options);
    assert_eq!(sandbox.stdout("db", &["logs", "db"]), "one\ntwo\nready\n");
    assert_eq!(
        sandbox.stdout("db", &["logs", "db", "-n", "2"]),
        "two\nready\n"
    );
    assert_eq!(sandbox.stdout("db", &["logs", "db", "-n", "0"]), "");
    let mut command = sandbox.procref("db");
    let mut follower = Running::new(command.args(["logs", "db", "-f", "-n", "1"]));
    assert_eq!(follower.line(), "ready");
    let mut writer = fs::OpenOptions::new()
        .write(true)
        .open(&messages)
        .expect("open the pipe");
    writeln!(writer, "three").expect("write a line");
    assert_eq!(follower.line(), "three");
    // Another process truncates the log.
    let log = sandbox.json("db", &["status", "db", "--json"])["log"].clone();
    let log = log.as_str().expect("a path").to_owned();
    fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .and_then(|file| file.set_len(0))
        .expect("truncate");
    writeln!(writer, "four").expect("write a line");
    assert_eq!(follower.line(), "four");
    // Another file replaces the log.
    fs::rename(&log, format!("{log}.1")).expect("rename");
    write_private(Path::new(&log), "five\n");
    assert_eq!(follower.line(), "five");
    holder.leave();
    assert_eq!(follower.wait().code(), Some(0));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn log_file_set_in_config_outlives_the_service() {
    let sandbox = Sandbox::new();
    let log = sandbox.path("kept.log");
    let config = format!(
        "shared = true\n[services.db]\nstart = \"sh -c 'echo hello; exec sleep 3600'\"\nready = \"log:hello\"\nlog = {:?}\n",
        path_text(&log)
    );
    fs::write(sandbox.path("here/procref.toml"), config).expect("write procref.toml");
    assert_eq!(
        sandbox.run("db", &["run", "db", "--", "true"]).code,
        Some(0)
    );
    assert_eq!(
        sandbox.run("db", &["wait", "db", "--stopped"]).code,
        Some(0)
    );
    assert_eq!(sandbox.stdout("db", &["logs", "db"]), "hello\n");
}

#[test]
fn g6_gc_removes_leftovers_of_crashes() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run("db", &["gc"]).err, "nothing to remove\n");
    // The service has no child: `gc` does not find the children of a service whose supervisor was killed.
    let options = ["--start", "sleep 3600"].map(str::to_owned);
    let holder = sandbox.hold("db", &options);
    let status = sandbox.json("db", &["status", "db", "--json"]);
    let supervisor = sandbox.supervisor("db");
    supervisor.kill();
    supervisor.wait_exit();
    assert_eq!(
        sandbox.json("db", &["gc", "--json"])["removed"],
        serde_json::json!([]),
        "a client holds the service"
    );
    holder.kill();
    let collected = sandbox.json("db", &["gc", "--json"]);
    assert_eq!(collected["removed"][0]["name"], "db");
    assert_eq!(collected["removed"][0]["stopped"], status["pid"]);
    sandbox.assert_nothing_left();
}

#[test]
fn closed_output_pipe_is_not_an_error() {
    let sandbox = Sandbox::new();
    for args in ["man", "completions bash", "--help"] {
        let script = format!("{{ {PROCREF} {args}; echo $? >&2; }} | head -c 1 >/dev/null");
        let done = finish(sandbox.command("bash").args(["-c", &script]));
        assert_eq!(done.err, "0\n", "{args}");
    }
}

#[test]
fn completions_and_man_pages_cover_the_commands() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            sandbox
                .stdout("", &["completions", shell])
                .contains("PROCREF_COMPLETE"),
            "{shell}"
        );
        // The scripts of all shells ask procref in this way. Each shell has its own variable for the index.
        let mut command = sandbox.procref("");
        command
            .args(["--", "procref", "run", "--wat"])
            .env("PROCREF_COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", "2");
        let done = finish(&mut command);
        assert!(done.out.contains("--watch-client"), "{shell}: {done:?}");
    }
    let man = sandbox.stdout("", &["man", "run"]);
    assert!(
        man.starts_with(".ie") && man.contains("watch\\-client"),
        "{man}"
    );
    let dir = sandbox.path("man");
    sandbox.stdout("", &["man", "--out", &path_text(&dir)]);
    for page in [
        "procref.1",
        "procref-run.1",
        "procref-stop.1",
        "procref.toml.5",
    ] {
        assert!(dir.join(page).exists(), "{page}");
    }
    assert_eq!(sandbox.run("", &["man", "nonsense"]).code, Some(2));
}

#[test]
fn quiet_prints_errors_only_and_verbose_prints_events() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.procref("db");
    let done = finish(
        command
            .args(["pin", "-q", "db"])
            .args(sandbox.service("db")),
    );
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (Some(0), "", "")
    );
    let done = sandbox.run("db", &["stop", "-v", "db"]);
    assert!(done.err.contains("stopped service=\"db\""), "{}", done.err);
    let done = sandbox.run("db", &["status", "-q", "db"]);
    assert!(done.err.contains("is not running"), "{}", done.err);
}

#[test]
fn usage_errors_exit_2_and_linked_runtime_directory_exits_1() {
    let sandbox = Sandbox::new();
    for args in [
        &["stop"][..],
        &["ps", "--nonsense"],
        &["wait", "db", "--timeout", "5"],
        &["nonsense"],
    ] {
        assert_eq!(sandbox.run("", args).code, Some(2), "{args:?}");
    }
    let link = sandbox.path("link");
    std::os::unix::fs::symlink(sandbox.runtime_dir(), &link).expect("create a link");
    let done = sandbox.run("", &["ps", "--runtime-dir", &path_text(&link)]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("symbolic link"), "{}", done.err);
}

#[test]
fn separate_fingerprints_are_addressed_by_option() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.procref("db");
    let separate = ["--fingerprint", "two words", "--mismatch", "separate"];
    let done = finish(
        command
            .args(["pin", "db"])
            .args(separate)
            .args(sandbox.service("db")),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = sandbox.run("db", &["status", "db"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(
        done.err.contains("--fingerprint 'two words' is running"),
        "{}",
        done.err
    );
    sandbox.stdout("db", &["status", "db", "--fingerprint", "two words"]);
    sandbox.stdout("db", &["stop", "db", "--fingerprint", "two words"]);
    sandbox.assert_stopped("db", 1);
}
