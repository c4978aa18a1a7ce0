//! Every command's success and failure, with the real program.

#![cfg(target_os = "linux")]

#[path = "support/sandbox.rs"]
mod stage;

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use procref_testkit::deadline;
use rustix::process::Signal;
use stage::{PROCREF, Running, Stage, finish, text};

#[test]
fn ps_lists_running_services_only() {
    let stage = Stage::new();
    let done = stage.done("", &["ps"]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""));
    let options = stage.service("db");
    let holder = stage.hold("db", &options);
    let pid = stage.instance("db").pid.to_string();
    let table = stage.out("db", &["ps"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(row[..4], ["db", "ready", "1", pid.as_str()]);
    assert!(!table.contains('\u{1b}'), "no colours in a pipe");
    let colours = stage.out("db", &["ps", "--color", "always"]);
    assert!(colours.contains("\u{1b}["), "{colours:?}");
    let listed = &stage.json("db", &["ps", "--json"])["services"][0];
    assert_eq!(
        (&listed["name"], &listed["clients"]),
        (&"db".into(), &1.into())
    );
    assert_eq!(listed["holders"][0]["pid"], holder.client.pid);
    holder.leave();
    stage.ends("db", 1);
}

#[test]
fn ps_watch_prints_every_change_once() {
    let stage = Stage::new();
    let mut command = stage.procref("db");
    let watcher = Running::new(command.args(["ps", "--watch", "--json", "--interval", "20ms"]));
    assert_eq!(watcher.line(), r#"{"services":[]}"#);
    let options = stage.service("db");
    let holder = stage.hold("db", &options);
    watcher.line_with(r#""state":"ready""#);
    holder.leave();
    while watcher.line() != r#"{"services":[]}"# {}
    stage.ends("db", 1);
}

#[test]
fn status_lists_holders_and_exits_3_when_not_running() {
    let stage = Stage::new();
    for args in [&["status", "db"][..], &["status", "db", "--json"]] {
        let done = stage.done("db", args);
        assert_eq!(done.code, Some(3), "{done:?}");
        assert!(done.err.contains("`db` does not run"), "{}", done.err);
    }
    let options = stage.service("db");
    let holder = stage.hold("db", &options);
    let told = stage.out("db", &["status", "db"]);
    assert!(
        told.contains(&format!("pid {}, running for", holder.client.pid)),
        "{told}"
    );
    let json = stage.json("db", &["status", "db", "--json"]);
    assert_eq!(json["state"], "ready");
    assert_eq!(json["pid"], stage.instance("db").pid);
    // A dead one is no running one.
    let instance = stage.instance("db");
    instance.kill();
    deadline::until_true("its end is known", || {
        stage
            .done("db", &["status", "db"])
            .out
            .contains("killed by signal 9")
    });
    assert_eq!(stage.done("db", &["status", "db"]).code, Some(3));
    holder.leave();
    stage.done("db", &["gc"]);
    stage.all_is_gone();
}

#[test]
fn pin_keeps_a_service_until_unpin_stops_it() {
    let stage = Stage::new();
    let mut command = stage.procref("db");
    let done = finish(
        command
            .args(["pin", "db", "--json"])
            .args(stage.service("db")),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    let instance = stage.instance("db");
    let told: serde_json::Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(told["pid"], instance.pid);
    let json = stage.json("db", &["status", "db", "--json"]);
    assert_eq!(
        (&json["pinned"], &json["clients"]),
        (&true.into(), &0.into())
    );
    // Found by clients, who need not know how it is started.
    assert_eq!(stage.done("db", &["run", "db", "--", "true"]).code, Some(0));
    assert!(instance.is_live());
    assert_eq!(
        stage.json("db", &["unpin", "db", "--json"])["unpinned"],
        true
    );
    instance.wait_exit();
    stage.ends("db", 1);
    for command in ["unpin", "pin"] {
        let done = stage.done("db", &[command, "db"]);
        assert_eq!(done.code, Some(3), "no file has the name: {done:?}");
    }
}

#[test]
fn stop_refuses_a_held_service_and_names_its_clients() {
    let stage = Stage::new();
    let options = stage.service("db");
    let holder = stage.hold("db", &options);
    let instance = stage.instance("db");
    let done = stage.done("db", &["stop", "db"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    let pid = format!("pid {}, running for", holder.client.pid);
    for part in ["1 client holds it", pid.as_str(), "read -r line", "--force"] {
        assert!(done.err.contains(part), "{part}: {}", done.err);
    }
    assert!(instance.is_live());
    assert_eq!(
        stage.json("db", &["stop", "db", "--force", "--json"])["stopped"],
        true
    );
    assert!(!instance.is_live(), "it has waited for that");
    assert!(
        holder.client.is_live(),
        "it is nobody's business to end clients"
    );
    let listed = &stage.json("db", &["ps", "--json"])["services"][0];
    assert_eq!(
        (&listed["name"], &listed["clients"]),
        (&"db".into(), &1.into())
    );
    assert!(stage.out("db", &["ps"]).contains("\ndb "));
    holder.leave();
    stage.ends("db", 1);
    let done = stage.done("db", &["stop", "db"]);
    assert_eq!(done.code, Some(3), "no file has the name: {done:?}");
    assert!(done.err.contains("does not run"), "{done:?}");
}

#[test]
fn stop_replaces_control_characters_of_a_name() {
    let stage = Stage::new();
    let name = "d\u{7}b";
    let holder = stage.hold(name, &stage.service(name));
    let refused = stage.done(name, &["stop", name]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    let stopped = stage.done(name, &["stop", name, "--force"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    for text in [refused.err, stopped.err] {
        assert!(text.contains("d\u{fffd}b"), "{text:?}");
        assert!(!text.contains('\u{7}'), "{text:?}");
    }
    holder.leave();
    stage.all_is_gone();
}

#[test]
fn stop_ends_a_pinned_or_lingering_service() {
    for options in [&["--linger", "1h"][..], &[]] {
        let stage = Stage::new();
        let verb = if options.is_empty() { "pin" } else { "run" };
        let mut command = stage.procref("db");
        command
            .args([verb, "db"])
            .args(options)
            .args(stage.service("db"));
        if verb == "run" {
            command.args(["--", "true"]);
        }
        assert_eq!(finish(&mut command).code, Some(0));
        assert!(stage.instance("db").is_live());
        stage.out("db", &["stop", "db"]);
        stage.ends("db", 1);
    }
}

#[test]
fn hold_exits_0_on_a_signal_and_1_when_the_service_dies() {
    let stage = Stage::new();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = stage.procref("db");
        command.args(["hold", "db"]).args(stage.service("db"));
        let mut hold = Running::new(&mut command);
        let instance = stage.instance_of(&hold.line());
        hold.identity().signal(signal);
        assert_eq!(hold.wait().code(), Some(0));
        instance.wait_exit();
        stage.all_is_gone();
    }
    let mut command = stage.procref("db");
    command
        .args(["hold", "db"])
        .args(stage.service("db"))
        .stderr(Stdio::piped());
    let mut hold = Running::new(&mut command);
    let instance = stage.instance_of(&hold.line());
    instance.kill();
    assert_eq!(hold.wait().code(), Some(1));
    let said = std::io::read_to_string(hold.child.stderr.take().expect("a pipe"));
    assert!(said.expect("text").contains("`db` has ended"));
}

#[test]
fn wait_returns_when_the_service_is_ready_or_stopped() {
    let stage = Stage::new();
    let done = stage.done(
        "db",
        &["wait", "db", "--allow-unknown", "--timeout", "100ms"],
    );
    assert_eq!(done.code, Some(5), "{done:?}");
    let mut command = stage.procref("db");
    let mut ready = Running::new(command.args(["wait", "db", "--allow-unknown", "--json"]));
    let options = stage.service("db");
    let holder = stage.hold("db", &options);
    let told: serde_json::Value = serde_json::from_str(&ready.line()).expect("JSON");
    assert_eq!(told["pid"], stage.instance("db").pid);
    assert_eq!(ready.wait().code(), Some(0));
    let done = stage.done("db", &["wait", "db", "--stopped", "--timeout", "100ms"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    let mut command = stage.procref("db");
    // The service may be gone before the command has looked for its name.
    let wait = ["wait", "db", "--stopped", "--allow-unknown"];
    let mut stopped = Running::new(command.args(wait));
    holder.leave();
    assert_eq!(stopped.wait().code(), Some(0));
    stage.ends("db", 1);
}

#[test]
fn logs_print_last_lines_and_follow_until_the_service_stops() {
    let stage = Stage::new();
    let done = stage.done("db", &["logs", "db"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    let orders = stage.path("orders");
    rustix::fs::mkfifoat(rustix::fs::CWD, &orders, rustix::fs::Mode::RWXU).expect("a pipe");
    // Says what it reads.
    let code = format!("echo one; echo two; cat <>{} & :", text(&orders));
    let options = stage.service_that("db", &code);
    let holder = stage.hold("db", &options);
    assert_eq!(stage.out("db", &["logs", "db"]), "one\ntwo\nready\n");
    assert_eq!(stage.out("db", &["logs", "db", "-n", "2"]), "two\nready\n");
    assert_eq!(stage.out("db", &["logs", "db", "-n", "0"]), "");
    let mut command = stage.procref("db");
    let mut follower = Running::new(command.args(["logs", "db", "-f", "-n", "1"]));
    assert_eq!(follower.line(), "ready");
    let mut writer = fs::OpenOptions::new()
        .write(true)
        .open(&orders)
        .expect("the pipe");
    writeln!(writer, "three").expect("write");
    assert_eq!(follower.line(), "three");
    // Somebody makes room in it.
    let log = stage.json("db", &["status", "db", "--json"])["log"].clone();
    let log = log.as_str().expect("a path").to_owned();
    fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .and_then(|file| file.set_len(0))
        .expect("truncate");
    writeln!(writer, "four").expect("write");
    assert_eq!(follower.line(), "four");
    // Another file takes its place.
    fs::rename(&log, format!("{log}.1")).expect("rename");
    fs::write(&log, "five\n").expect("write");
    assert_eq!(follower.line(), "five");
    holder.leave();
    assert_eq!(follower.wait().code(), Some(0));
    stage.ends("db", 1);
}

#[test]
fn log_file_set_in_config_outlives_the_service() {
    let stage = Stage::new();
    let log = stage.path("kept.log");
    let config = format!(
        "shared = true\n[services.db]\nstart = \"sh -c 'echo hello; exec sleep 3600'\"\nready = \"log:hello\"\nlog = {:?}\n",
        text(&log)
    );
    fs::write(stage.path("here/procref.toml"), config).expect("a file");
    assert_eq!(stage.done("db", &["run", "db", "--", "true"]).code, Some(0));
    assert_eq!(stage.done("db", &["wait", "db", "--stopped"]).code, Some(0));
    assert_eq!(stage.out("db", &["logs", "db"]), "hello\n");
}

#[test]
fn g6_gc_removes_leftovers_of_crashes() {
    let stage = Stage::new();
    assert_eq!(stage.done("db", &["gc"]).err, "nothing to remove\n");
    // One without a child: what a service leaves whose supervisor is killed, nobody finds.
    let options = ["--start", "sleep 3600"].map(str::to_owned);
    let holder = stage.hold("db", &options);
    let status = stage.json("db", &["status", "db", "--json"]);
    let supervisor = &status["supervisor"];
    let supervisor = supervisor
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok())
        .expect("a pid");
    let supervisor = procref_testkit::observe::Identity::of(supervisor).expect("it lives");
    supervisor.kill();
    supervisor.wait_exit();
    assert_eq!(
        stage.json("db", &["gc", "--json"])["removed"],
        serde_json::json!([]),
        "it is held"
    );
    holder.kill();
    let collected = stage.json("db", &["gc", "--json"]);
    assert_eq!(collected["removed"][0]["name"], "db");
    assert_eq!(collected["removed"][0]["stopped"], status["pid"]);
    stage.all_is_gone();
}

#[test]
fn closed_output_pipe_is_not_an_error() {
    let stage = Stage::new();
    for args in ["man", "completions bash", "--help"] {
        let script = format!("{{ {PROCREF} {args}; echo $? >&2; }} | head -c 1 >/dev/null");
        let done = finish(stage.bare("bash").args(["-c", &script]));
        assert_eq!(done.err, "0\n", "{args}");
    }
}

#[test]
fn completions_and_man_pages_cover_the_commands() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            stage
                .out("", &["completions", shell])
                .contains("watch-client"),
            "{shell}"
        );
    }
    let man = stage.out("", &["man", "run"]);
    assert!(
        man.starts_with(".ie") && man.contains("watch\\-client"),
        "{man}"
    );
    let dir = stage.path("man");
    stage.out("", &["man", "--out", &text(&dir)]);
    for page in ["procref.1", "procref-run.1", "procref-stop.1"] {
        assert!(dir.join(page).exists(), "{page}");
    }
    assert_eq!(stage.done("", &["man", "nonsense"]).code, Some(2));
}

#[test]
fn quiet_prints_errors_only_and_verbose_prints_events() {
    let stage = Stage::new();
    let mut command = stage.procref("db");
    let done = finish(command.args(["pin", "-q", "db"]).args(stage.service("db")));
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (Some(0), "", "")
    );
    let done = stage.done("db", &["stop", "-v", "db"]);
    assert!(done.err.contains("stopped service=\"db\""), "{}", done.err);
    let done = stage.done("db", &["status", "-q", "db"]);
    assert!(done.err.contains("does not run"), "{}", done.err);
}

#[test]
fn usage_errors_exit_2_and_linked_runtime_directory_exits_1() {
    let stage = Stage::new();
    for args in [
        &["stop"][..],
        &["ps", "--nonsense"],
        &["wait", "db", "--timeout", "5"],
        &["nonsense"],
    ] {
        assert_eq!(stage.done("", args).code, Some(2), "{args:?}");
    }
    let link = stage.path("link");
    std::os::unix::fs::symlink(stage.runtime_dir(), &link).expect("a link");
    let done = stage.done("", &["ps", "--runtime-dir", &text(&link)]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("symbolic link"), "{}", done.err);
}

#[test]
fn separate_fingerprints_are_addressed_by_option() {
    let stage = Stage::new();
    let mut command = stage.procref("db");
    let separate = ["--fingerprint", "two words", "--mismatch", "separate"];
    let done = finish(
        command
            .args(["pin", "db"])
            .args(separate)
            .args(stage.service("db")),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = stage.done("db", &["status", "db"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(
        done.err.contains("--fingerprint 'two words' does"),
        "{}",
        done.err
    );
    stage.out("db", &["status", "db", "--fingerprint", "two words"]);
    stage.out("db", &["stop", "db", "--fingerprint", "two words"]);
    stage.ends("db", 1);
}
