//! The log of a service that procref executes: its limit holds without clients that join, and costs a silent
//! service nothing. What its supervisor writes into it.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procref_testkit::observe::Identity;
use procref_testkit::protocol::{ReadySpec, ServiceSpec};
use procref_testkit::{Actor, Scene, deadline, scene};
use rustix::process::Signal;

const LIMIT: u64 = 1 << 20;

/// A shell that writes 20 MB, at most 10 MB/s, when the file `go` is there, and then makes the file `written`.
fn loud(scene: &Scene, log: &Path) -> ServiceSpec {
    let root = scene.root().display().to_string();
    let script = format!(
        "while [ ! -e {root}/go ]; do sleep 0.05; done; i=0; \
         while [ $i -lt 200 ]; do head -c 100000 /dev/zero; sleep 0.01; i=$((i+1)); done; \
         : > {root}/written; exec sleep 1000"
    );
    by_shell(scene, &script, log)
}

fn by_shell(scene: &Scene, script: &str, log: &Path) -> ServiceSpec {
    let mut spec = scene
        .unique(scene.command("loud"))
        .with_ready(ReadySpec::AtOnce);
    let command = spec.command.as_mut().expect("the spec has a command");
    command.program = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    command.log = Some((log.to_owned(), LIMIT));
    spec
}

/// A client that holds it, the key of its set, and the service's pid.
fn holder(scene: &Scene, spec: &ServiceSpec) -> (Actor, i32, u32) {
    let client = scene.actor();
    let key = client.build(spec);
    let pid = client.acquire().got.pid;
    (client, key, pid)
}

fn rotated(log: &Path) -> PathBuf {
    PathBuf::from(format!("{}.1", log.display()))
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The largest size, by this measure, until the service has written everything.
fn largest(scene: &Scene, measure: impl Fn() -> u64) -> u64 {
    fs::write(scene.root().join("go"), "").expect("write");
    let mut most = 0;
    deadline::until_true("it has written everything", || {
        most = most.max(measure());
        scene.root().join("written").exists()
    });
    most
}

fn wake_ups(supervisor: Identity) -> String {
    let switches = supervisor.status("voluntary_ctxt_switches");
    switches.expect("the process is alive")
}

/// Waits until the supervisor sleeps, and returns how often it has slept by then.
fn settled(supervisor: Identity) -> String {
    let mut before = String::new();
    let mut same = 0;
    deadline::until("the supervisor sleeps", || {
        let now = wake_ups(supervisor);
        same = if now == before { same + 1 } else { 0 };
        before.clone_from(&now);
        (same == 20).then_some(now)
    })
}

#[test]
fn log_limit_holds_without_joiners() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud(&scene, &log);
    let (client, key, _) = holder(&scene, &spec);
    let most = largest(&scene, || size(&log) + size(&rotated(&log)));
    assert!(most <= 4 * LIMIT, "{most} bytes");
    assert!(most > LIMIT, "it was written to: {most} bytes");
    assert_eq!(size(&rotated(&log)), LIMIT, "the end is kept");
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn log_limit_holds_for_a_log_that_was_deleted() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud(&scene, &log);
    let (client, key, service) = holder(&scene, &spec);
    fs::remove_file(&log).expect("remove");
    let most = largest(&scene, || size(Path::new(&format!("/proc/{service}/fd/1"))));
    assert!(LIMIT / 2 < most && most <= 4 * LIMIT, "{most} bytes");
    assert!(!log.exists() && !rotated(&log).exists());
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn renamed_log_is_not_changed() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud(&scene, &log);
    let (client, key, _) = holder(&scene, &spec);
    let moved = scene.root().join("moved.log");
    fs::rename(&log, &moved).expect("rename");
    fs::write(&log, "another program's").expect("write");
    largest(&scene, || 0);
    assert_eq!(size(&moved), 20_000_000, "nothing is taken away from it");
    assert_eq!(fs::read_to_string(&log).expect("read"), "another program's");
    assert!(!rotated(&log).exists());
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn log_is_not_truncated_if_its_end_cannot_be_saved() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud(&scene, &log);
    fs::create_dir(rotated(&log)).expect("create");
    let (client, key, _) = holder(&scene, &spec);
    largest(&scene, || 0);
    assert_eq!(size(&log), 20_000_000);
    // It does not try without end either, once the service is silent.
    let supervisor = scene.only_supervisor(&spec);
    settled(supervisor);
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_supervisor_of_a_silent_service_never_wakes() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud(&scene, &log);
    let (client, key, _) = holder(&scene, &spec);
    let supervisor = scene.only_supervisor(&spec);
    let before = settled(supervisor);
    sleeps_on(supervisor, &before);
    // Also when it has been loud before.
    largest(&scene, || 0);
    assert_ne!(wake_ups(supervisor), before, "it wakes while the log grows");
    let before = settled(supervisor);
    sleeps_on(supervisor, &before);
    client.kill();
    scene.wait_removed(&spec, key);
}

#[track_caller]
fn sleeps_on(supervisor: Identity, before: &str) {
    // That nothing happens has no event. The longest pause between two looks is a second.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(wake_ups(supervisor), before);
}

#[test]
fn log_limit_holds_while_a_service_stops() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let root = scene.root().display().to_string();
    let script = format!(
        "trap 'i=0; while [ $i -lt 100 ]; do head -c 100000 /dev/zero; sleep 0.01; i=$((i+1)); done; \
         : > {root}/written; exit 0' TERM; while :; do sleep 0.05; done"
    );
    let spec = by_shell(&scene, &script, &log).with_stop_timeout_ms(600_000);
    let (client, key, _) = holder(&scene, &spec);
    client.kill();
    let most = largest(&scene, || size(&log) + size(&rotated(&log)));
    assert!(LIMIT < most && most <= 4 * LIMIT, "{most} bytes");
    scene.wait_removed(&spec, key);
}

#[test]
fn supervisor_logs_why_it_stops_leftover_processes() {
    let scene = scene!();
    let root = scene.root().display().to_string();
    for (end, expected, advice) in [
        ("exit 0", "exited with status 0 and left", true),
        ("exit 7", "exited with status 7 and left", false),
        ("kill -9 $$", "was killed by signal 9 and left", false),
    ] {
        let log = scene.root().join("service.log");
        let script = format!("sleep 1000 & while [ ! -e {root}/go ]; do sleep 0.05; done; {end}");
        let spec = by_shell(&scene, &script, &log);
        let client = scene.actor();
        let key = client.build(&spec);
        let held = client.acquire();
        fs::write(scene.root().join("go"), "").expect("write");
        let said = deadline::until("the note", || {
            let said = fs::read_to_string(&log).expect("read");
            said.ends_with('\n').then_some(said)
        });
        assert!(said.starts_with("procref: `sh` "), "{said}");
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.contains("stay in the foreground"), advice, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        // No supervisor is left to clean up behind a client that is killed.
        client.release(&held);
        scene.wait_removed(&spec, key);
        fs::remove_file(scene.root().join("go")).expect("remove");
        fs::remove_file(&log).expect("remove");
    }
}

#[test]
fn supervisor_logs_nothing_if_no_process_is_left() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = by_shell(&scene, "exec sleep 1000", &log);
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    let service = Identity::of(held.got.pid).expect("the process is alive");
    service.signal(Signal::TERM);
    service.wait_exit();
    deadline::until_true("its supervisor resigns", || {
        procref_testkit::observe::supervisors_of(&spec.name).is_empty()
    });
    assert_eq!(fs::read_to_string(&log).expect("read"), "");
    client.release(&held);
    scene.wait_removed(&spec, key);
}
