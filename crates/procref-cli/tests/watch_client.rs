//! `run --watch-client`: procref stays as the parent of the client.

#![cfg(target_os = "linux")]

mod support;

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use support::{
    PROCREF, path_text,
    sandbox::{
        Holder, LEAVES_ORPHANS, PRINT_PID_AND_HOLD, Running, Sandbox, finish, shell_command,
    },
    signal_mask,
};

/// Starts a client with a parent that watches it.
fn watched(sandbox: &Sandbox, script: &str) -> Running {
    let mut options = vec!["--watch-client".to_owned()];
    options.extend(sandbox.service("db"));
    sandbox.run_client("db", &options, script)
}

/// Waits until the process is a child of the watcher.
#[track_caller]
fn wait_adopted(process: Identity, watcher: Identity) {
    deadline::until_true("the process is a child of procref", || {
        let parent = process.status("PPid");
        parent.is_some_and(|pid| pid.trim() == watcher.pid.to_string())
    });
}

#[test]
fn watcher_returns_the_clients_status() {
    let sandbox = Sandbox::new();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -USR1 $$", 138),
    ] {
        assert_eq!(
            watched(&sandbox, script).wait().code(),
            Some(code),
            "{script}"
        );
    }
    let mut command = sandbox.procref("db");
    command
        .args(["run", "db", "--watch-client"])
        .args(sandbox.service("db"));
    let done = finish(command.args(["--", "/no/such/client"]));
    assert_eq!(done.code, Some(127), "{done:?}");
    sandbox.assert_nothing_left();
}

#[test]
fn watcher_forwards_signals_to_the_client() {
    let sandbox = Sandbox::new();
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"] {
        let script =
            format!("trap 'echo got; exit 9' {signal}; echo here; while :; do sleep 0.05; done");
        let mut running = watched(&sandbox, &script);
        assert_eq!(running.line(), "here");
        let number = signal_hook::consts::SIGTERM;
        let named = match signal {
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "QUIT" => Signal::QUIT,
            "TERM" => Signal::from_named_raw(number).expect("a signal"),
            "USR1" => Signal::USR1,
            "USR2" => Signal::USR2,
            _ => Signal::WINCH,
        };
        running.identity().signal(named);
        assert_eq!(running.line(), "got", "{signal}");
        assert_eq!(running.wait().code(), Some(9));
    }
    sandbox.assert_nothing_left();
}

#[test]
fn orphan_of_the_client_holds_the_service_until_it_ends() {
    let sandbox = Sandbox::new();
    // The daemon leads its own session, and its parent exits.
    let mut running = watched(&sandbox, "setsid sh -c 'echo $$; exec sleep 3600' & exit 5");
    let daemon = running.process_in_line();
    let watcher = running.identity();
    wait_adopted(daemon, watcher);
    assert!(sandbox.instance("db").is_live());
    let instance = sandbox.instance("db");
    // The client has exited, so only the daemon can receive the signal.
    watcher.signal(Signal::TERM);
    daemon.wait_exit();
    assert_eq!(running.wait().code(), Some(5), "the client's status");
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn client_keeps_the_service_when_the_watcher_is_killed() {
    let sandbox = Sandbox::new();
    let mut holder = Holder::new(watched(&sandbox, PRINT_PID_AND_HOLD));
    let (watcher, instance) = (holder.running.identity(), sandbox.instance("db"));
    assert_ne!(watcher.pid, holder.client.pid);
    watcher.kill();
    holder.running.wait();
    deadline::until_true("only the client holds the service", || {
        sandbox.json("db", &["status", "db", "--json"])["clients"] == 1
    });
    assert!(instance.is_live() && holder.client.is_live());
    let holders = &sandbox.json("db", &["status", "db", "--json"])["holders"];
    assert_eq!(holders[0]["pid"], holder.client.pid);
    holder.client.kill();
    instance.wait_exit();
    sandbox.assert_stopped("db", 1);
}

#[test]
fn watcher_releases_the_service_when_the_client_is_killed() {
    let sandbox = Sandbox::new();
    let mut holder = Holder::new(watched(&sandbox, PRINT_PID_AND_HOLD));
    holder.client.kill();
    assert_eq!(holder.running.wait().code(), Some(137));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn client_environment_has_no_watcher_variables() {
    let sandbox = Sandbox::new();
    let mut running = watched(&sandbox, "env | grep WATCHED; echo \"end $PROCREF_NAME\"");
    assert_eq!(running.line(), "end db");
    assert_eq!(running.wait().code(), Some(0));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn g3_watcher_returns_when_the_client_restarted_its_service() {
    let sandbox = Sandbox::new();
    let again = shell_command(&sandbox, &["run", "db"], "db");
    let dead = "kill -9 $PROCREF_PID; while kill -0 $PROCREF_PID 2>/dev/null; do sleep 0.01; done";
    let script = format!("{dead}; {again} -- echo inner");
    let mut running = watched(&sandbox, &script);
    assert_eq!(running.line(), "inner");
    assert_eq!(running.wait().code(), Some(0));
    sandbox.assert_nothing_left();
    let history = sandbox.history("db");
    assert_eq!(
        history.len(),
        3,
        "two starts, and an orderly stop: {history:?}"
    );
}

#[test]
fn watcher_returns_while_services_started_below_it_run() {
    let sandbox = Sandbox::new();
    for name in ["pinned", "lingering", "held"] {
        sandbox.register(name);
    }
    let pin = shell_command(&sandbox, &["pin", "pinned"], "pinned");
    let linger = shell_command(
        &sandbox,
        &["run", "lingering", "--linger", "1h"],
        "lingering",
    );
    let held = shell_command(&sandbox, &["run", "held"], "held");
    let script = format!("{pin}; {linger} -- true; {held} -- echo inner; read -r line; exit 5");
    let mut running = watched(&sandbox, &script);
    assert_eq!(running.line(), "inner");
    let holder = sandbox.hold("held", &sandbox.service("held"));
    let services = ["pinned", "lingering", "held"].map(|name| sandbox.instance(name));
    running.send("go\n");
    assert_eq!(running.wait().code(), Some(5));
    assert!(services.iter().all(|service| service.is_live()));
    holder.leave();
    sandbox.stdout("pinned", &["stop", "pinned"]);
    sandbox.stdout("lingering", &["stop", "lingering"]);
    services.iter().for_each(|service| service.wait_exit());
    sandbox.assert_stopped("pinned", 1);
}

#[test]
fn g3_watcher_returns_when_a_supervisor_below_was_killed() {
    let sandbox = Sandbox::new();
    let inner = shell_command(&sandbox, &["run", "other"], "other");
    let script = format!("{inner} -- sh -c 'echo inner; read -r line'; exit 5");
    sandbox.register("other");
    let mut running = watched(&sandbox, &script);
    assert_eq!(running.line(), "inner");
    let holder = sandbox.hold("other", &sandbox.service("other"));
    let supervisor = sandbox.supervisor("other");
    let service = sandbox.instance("other");
    let children = service.children();
    supervisor.kill();
    supervisor.wait_exit();
    wait_adopted(service, running.identity());
    running.send("go\n");
    assert_eq!(running.wait().code(), Some(5));
    assert!(service.is_live(), "another client holds the service");
    // This client starts another supervisor for the service.
    sandbox.hold("other", &sandbox.service("other")).leave();
    holder.leave();
    service.wait_exit();
    // The new supervisor does not know the children that the service started under the first one.
    children.into_iter().for_each(Identity::kill);
}

#[test]
fn g5_watcher_signals_no_service_started_below_it() {
    let sandbox = Sandbox::new();
    sandbox.register("other");
    let pin = shell_command(&sandbox, &["pin", "other"], "other");
    let script = format!("{pin}; setsid sh -c 'echo $$; exec sleep 3600' & exit 5");
    let mut running = watched(&sandbox, &script);
    let daemon = running.process_in_line();
    let watcher = running.identity();
    wait_adopted(daemon, watcher);
    let other = sandbox.instance("other");
    watcher.signal(Signal::TERM);
    daemon.wait_exit();
    assert_eq!(running.wait().code(), Some(5));
    assert!(other.is_live());
    assert_eq!(
        sandbox.history("other").len(),
        1,
        "the service was started and has no stop signal"
    );
    sandbox.stdout("other", &["stop", "other"]);
}

#[test]
fn watcher_waits_for_a_program_named_like_a_supervisor() {
    let sandbox = Sandbox::new();
    let sleep = std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))
        .map(|dir| dir.join("sleep"))
        .find(|path| path.is_file())
        .expect("a program to copy");
    let named = sandbox.path("procref: x");
    std::fs::copy(sleep, &named).expect("copy the program");
    let script = format!(
        "setsid sh -c 'echo $$; exec \"{}\" 3600' & exit 5",
        path_text(&named)
    );
    let mut running = watched(&sandbox, &script);
    let daemon = running.process_in_line();
    let watcher = running.identity();
    deadline::until_true("procref's child has executed the program", || {
        let has =
            |field: &str, value: &str| daemon.status(field).is_some_and(|it| it.trim() == value);
        has("PPid", &watcher.pid.to_string()) && has("Name", "procref: x")
    });
    assert!(!procref::is_managed(daemon.pid).expect("/proc"));
    assert!(sandbox.instance("db").is_live());
    watcher.signal(Signal::TERM);
    daemon.wait_exit();
    assert_eq!(running.wait().code(), Some(5));
    sandbox.assert_stopped("db", 1);
}

/// Starts a client of a `procref` that ignores these signals. A child of `nohup` or of a shell script may
/// ignore them.
fn run_ignoring(sandbox: &Sandbox, signals: &str, mode: &[&str], script: &str) -> Running {
    sandbox.register("db");
    let mut command = sandbox.command("env");
    command
        .arg(format!("--ignore-signal={signals}"))
        .arg(PROCREF);
    command.args(mode).args(sandbox.service("db"));
    Running::new(command.args(["--", "sh", "-c", script]))
}

#[test]
fn ignored_signals_stay_ignored_in_procref_and_the_client() {
    const IGNORED: [(&str, Signal); 7] = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("WINCH", Signal::WINCH),
    ];
    let sandbox = Sandbox::new();
    let names = IGNORED.map(|(name, _)| name).join(",");
    for mode in [&["run", "db"][..], &["run", "db", "--watch-client"]] {
        let script = "grep SigIgn /proc/self/status; read -r line; exit 5";
        let mut running = run_ignoring(&sandbox, &names, mode, script);
        let line = running.line();
        let mask = signal_mask(line.split_whitespace().nth(1).expect("a mask"));
        let service = sandbox.instance("db");
        let of_service = signal_mask(&service.status("SigIgn").expect("a live service"));
        for (name, signal) in IGNORED {
            let bit = 1 << (signal.as_raw() - 1);
            assert_ne!(mask & bit, 0, "the client ignores {name}: {line}");
            assert_eq!(of_service & bit, 0, "the service does not ignore {name}");
            running.identity().signal(signal);
        }
        running.send("go\n");
        assert_eq!(running.wait().code(), Some(5), "{mode:?}");
        service.wait_exit();
    }
    sandbox.assert_nothing_left();
}

#[test]
fn watcher_forwards_other_signals_when_some_are_ignored() {
    let sandbox = Sandbox::new();
    let script = "trap 'exit 9' TERM; echo here; while :; do sleep 0.05; done";
    let mode = ["run", "db", "--watch-client"];
    let mut running = run_ignoring(&sandbox, "HUP", &mode, script);
    assert_eq!(running.line(), "here");
    running.identity().signal(Signal::HUP);
    running.identity().signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(9));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn watcher_returns_the_status_when_sigchld_is_ignored() {
    let sandbox = Sandbox::new();
    let mode = ["run", "db", "--watch-client"];
    assert_eq!(
        run_ignoring(&sandbox, "CHLD", &mode, "exit 5")
            .wait()
            .code(),
        Some(5)
    );
    // This client is not a shell, because a shell handles SIGCHLD itself.
    let mut command = sandbox.command("env");
    command.args(["--ignore-signal=CHLD", PROCREF]).args(mode);
    command
        .args(sandbox.service("db"))
        .args(["--", "grep", "SigIgn", "/proc/self/status"]);
    let done = finish(&mut command);
    let mask = signal_mask(done.out.split_whitespace().nth(1).expect("a mask"));
    assert_ne!(mask & 1 << (libc::SIGCHLD - 1), 0, "{done:?}");
    sandbox.assert_stopped("db", 2);
}

/// Returns a `procref` command that is executed with these signals blocked.
fn procref_blocking(sandbox: &Sandbox, signals: &str, mode: &[&str]) -> std::process::Command {
    sandbox.register("db");
    let mut command = sandbox.command("env");
    command
        .arg(format!("--block-signal={signals}"))
        .arg(PROCREF);
    command.args(mode).args(sandbox.service("db"));
    command
}

#[test]
fn client_inherits_blocked_signals_and_watcher_returns() {
    let sandbox = Sandbox::new();
    let names = "CHLD,TERM,HUP,USR1";
    let numbers = [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1];
    let expected: u64 = numbers.map(|number| 1 << (number - 1)).iter().sum();
    for mode in [&["run", "db"][..], &["run", "db", "--watch-client"]] {
        let mut command = procref_blocking(&sandbox, names, mode);
        let done = finish(command.args(["--", "grep", "SigBlk", "/proc/self/status"]));
        assert_eq!(done.code, Some(0), "{done:?}");
        let mask = signal_mask(done.out.split_whitespace().nth(1).expect("a mask"));
        assert_eq!(mask, expected, "{mode:?}: {done:?}");
    }
    sandbox.assert_stopped("db", 2);
}

#[test]
fn watcher_forwards_signals_that_were_blocked() {
    let sandbox = Sandbox::new();
    let mut command = procref_blocking(&sandbox, "CHLD,TERM", &["run", "db", "--watch-client"]);
    // Some shells unblock all signals, and the trap runs. In other shells the signal stays pending.
    let script = "trap 'exit 9' TERM; echo here; \
                  until grep -q '^ShdPnd:.*4...$' /proc/$$/status; do sleep 0.05; done; exit 9";
    let mut running = Running::new(command.args(["--", "sh", "-c", script]));
    assert_eq!(running.line(), "here");
    running.identity().signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(9));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn hold_releases_on_a_signal_that_was_blocked() {
    let sandbox = Sandbox::new();
    let mut command = procref_blocking(&sandbox, "CHLD,TERM", &["hold", "db"]);
    let mut running = Running::new(&mut command);
    running.line();
    running.identity().signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(0));
    sandbox.assert_stopped("db", 1);
}

#[test]
fn readiness_command_ends_when_sigchld_was_blocked() {
    let sandbox = Sandbox::new();
    sandbox.register("db");
    for mode in [&["run"][..], &["run", "--watch-client"]] {
        let mut command = sandbox.command("env");
        command.args(["--block-signal=CHLD", PROCREF]).args(mode);
        command.args(["db", "--start", "sleep 3600", "--ready", "cmd:true"]);
        let done = finish(command.args(["--", "true"]));
        assert_eq!(done.code, Some(0), "{mode:?}: {done:?}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn stop_signal_also_reaches_orphans_of_the_client() {
    let sandbox = Sandbox::new();
    sandbox.register("other");
    let pin = shell_command(&sandbox, &["pin", "other"], "other");
    let mut running = watched(&sandbox, &format!("{pin}; {LEAVES_ORPHANS}"));
    assert_eq!(running.line(), "here");
    let other = sandbox.instance("other");
    running.identity().signal(Signal::TERM);
    assert_eq!(running.wait().code(), Some(143));
    assert!(other.is_live());
    let history = sandbox.history("other");
    assert_eq!(history.len(), 1, "the service has a signal: {history:?}");
    sandbox.stdout("other", &["stop", "other"]);
    sandbox.assert_stopped("db", 1);
}

#[test]
fn orphans_get_no_signal_when_the_client_got_no_stop_signal() {
    let sandbox = Sandbox::new();
    let script = "trap \"exit 5\" HUP; setsid sh -c 'trap \"exit 0\" USR1; echo $$; while :; do sleep 0.05; done' & \
                  wait";
    let mut running = watched(&sandbox, script);
    let daemon = running.process_in_line();
    let watcher = running.identity();
    watcher.signal(Signal::HUP);
    wait_adopted(daemon, watcher);
    // procref handles `USR1` after `HUP`, and passes only `USR1` on to the daemon.
    watcher.signal(Signal::USR1);
    daemon.wait_exit();
    assert_eq!(running.wait().code(), Some(5));
    sandbox.assert_stopped("db", 1);
}
