//! `run --watch-client`: procref stays as the parent.

#![cfg(target_os = "linux")]

mod stage;

use procref_testkit::deadline;
use procref_testkit::observe::Identity;
use rustix::process::Signal;
use stage::{Holder, Running, Stage, finish};

fn watched(stage: &Stage, script: &str) -> Running {
    let mut command = stage.procref("db");
    command
        .args(["run", "db", "--watch-client"])
        .args(stage.service("db"));
    Running::new(command.args(["--", "sh", "-c", script]))
}

#[test]
fn the_clients_status_is_passed_on() {
    let stage = Stage::new();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -USR1 $$", 138),
    ] {
        assert_eq!(
            watched(&stage, script).wait().code(),
            Some(code),
            "{script}"
        );
    }
    let mut command = stage.procref("db");
    command
        .args(["run", "db", "--watch-client"])
        .args(stage.service("db"));
    let done = finish(command.args(["--", "/no/such/client"]));
    assert_eq!(done.code, Some(127), "{done:?}");
    stage.all_is_gone();
}

#[test]
fn signals_are_passed_on() {
    let stage = Stage::new();
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"] {
        let script =
            format!("trap 'echo got; exit 9' {signal}; echo here; while :; do sleep 0.05; done");
        let mut running = watched(&stage, &script);
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
    stage.all_is_gone();
}

#[test]
fn what_the_client_has_left_holds_the_service_until_it_ends() {
    let stage = Stage::new();
    // A daemon: its parent ends, and it has a session of its own.
    let running = watched(&stage, "setsid sh -c 'echo $$; exec sleep 3600' & exit 5");
    let daemon: u32 = running.line().parse().expect("a pid");
    let daemon = Identity::of(daemon).expect("it lives");
    let watcher = running.identity();
    deadline::until_true(
        "the client has ended and the daemon is procref's child",
        || {
            daemon
                .status("PPid")
                .is_some_and(|ppid| ppid.trim() == watcher.pid.to_string())
        },
    );
    assert!(stage.instance("db").is_live());
    let instance = stage.instance("db");
    // Nobody else is left to get it.
    watcher.signal(Signal::TERM);
    daemon.wait_gone();
    let mut running = running;
    assert_eq!(running.wait().code(), Some(5), "the client's own status");
    instance.wait_gone();
    stage.ends("db", 1);
}

#[test]
fn when_procref_is_killed_the_client_keeps_the_service() {
    let stage = Stage::new();
    let mut command = stage.procref("db");
    command
        .args(["run", "db", "--watch-client"])
        .args(stage.service("db"));
    command.args(["--", "sh", "-c", "echo \"held $$\"; read -r line"]);
    let mut holder = Holder::new(&mut command);
    let (watcher, instance) = (holder.running.identity(), stage.instance("db"));
    assert_ne!(watcher.pid, holder.client.pid);
    watcher.kill();
    holder.running.wait();
    deadline::until_true("only the client holds it", || {
        stage.json("db", &["status", "db", "--json"])["clients"] == 1
    });
    assert!(instance.is_live() && holder.client.is_live());
    let holders = &stage.json("db", &["status", "db", "--json"])["holders"];
    assert_eq!(holders[0]["pid"], holder.client.pid);
    holder.client.kill();
    instance.wait_gone();
    stage.ends("db", 1);
}

#[test]
fn when_the_client_is_killed_procref_lets_go() {
    let stage = Stage::new();
    let mut command = stage.procref("db");
    command
        .args(["run", "db", "--watch-client"])
        .args(stage.service("db"));
    command.args(["--", "sh", "-c", "echo \"held $$\"; read -r line"]);
    let mut holder = Holder::new(&mut command);
    holder.client.kill();
    assert_eq!(holder.running.wait().code(), Some(137));
    stage.ends("db", 1);
}

#[test]
fn the_client_does_not_see_how_it_came_about() {
    let stage = Stage::new();
    let mut running = watched(&stage, "env | grep WATCHED; echo \"end $PROCREF_NAME\"");
    assert_eq!(running.line(), "end db");
    assert_eq!(running.wait().code(), Some(0));
    stage.ends("db", 1);
}
