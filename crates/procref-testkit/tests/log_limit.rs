//! The log of a service that procref executes. Its size limit holds even if no client joins, and
//! costs a silent service nothing. The supervisor writes to it when it stops leftover processes.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procref_testkit::observe::Identity;
use procref_testkit::protocol::{ReadySpec, ServiceSpec};
use procref_testkit::{Actor, Scene, deadline, scene};
use rustix::process::Signal;

const LIMIT: u64 = 1 << 20;

/// Describes a shell script that waits for the file `go`, writes 20 MB at no more than 10 MB/s, and
/// then creates the file `written`.
fn loud_service(scene: &Scene, log: &Path) -> ServiceSpec {
    let root = scene.root().display().to_string();
    let script = format!(
        "while [ ! -e {root}/go ]; do sleep 0.05; done; i=0; \
         while [ $i -lt 200 ]; do head -c 100000 /dev/zero; sleep 0.01; i=$((i+1)); done; \
         : > {root}/written; exec sleep 1000"
    );
    shell_service(scene, &script, log)
}

fn shell_service(scene: &Scene, script: &str, log: &Path) -> ServiceSpec {
    let mut spec = scene
        .unique(scene.command("loud"))
        .with_ready(ReadySpec::AtOnce);
    let command = spec.command.as_mut().expect("the spec has a command");
    command.program = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    command.log = Some((log.to_owned(), LIMIT));
    spec
}

/// Returns a client that holds the service, the key of the set, and the service's pid.
fn holder_and_pid(scene: &Scene, spec: &ServiceSpec) -> (Actor, i32, u32) {
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

/// Lets the service write, and returns the maximum of `measure` until everything is written.
fn max_while_writing(scene: &Scene, measure: impl Fn() -> u64) -> u64 {
    fs::write(scene.root().join("go"), "").expect("write");
    let mut most = 0;
    deadline::until_true("the service has written everything", || {
        most = most.max(measure());
        scene.root().join("written").exists()
    });
    most
}

fn wake_ups(supervisor: Identity) -> String {
    let switches = supervisor.status("voluntary_ctxt_switches");
    switches.expect("the process is alive")
}

/// Waits until the supervisor sleeps, and returns its number of context switches.
fn wait_until_idle(supervisor: Identity) -> String {
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
    let spec = loud_service(&scene, &log);
    let (client, key, _) = holder_and_pid(&scene, &spec);
    let most = max_while_writing(&scene, || size(&log) + size(&rotated(&log)));
    assert!(most <= 4 * LIMIT, "{most} bytes");
    assert!(most > LIMIT, "the service wrote only {most} bytes");
    // The copy contains what the service has written during the copy.
    let kept = size(&rotated(&log));
    assert!(
        (LIMIT..=2 * LIMIT).contains(&kept),
        "the end of the log is kept, not {kept} bytes"
    );
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn log_limit_holds_for_a_log_that_was_deleted() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud_service(&scene, &log);
    let (client, key, service) = holder_and_pid(&scene, &spec);
    fs::remove_file(&log).expect("remove");
    let most = max_while_writing(&scene, || size(Path::new(&format!("/proc/{service}/fd/1"))));
    assert!(LIMIT / 2 < most && most <= 4 * LIMIT, "{most} bytes");
    assert!(!log.exists() && !rotated(&log).exists());
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn renamed_log_is_not_changed() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud_service(&scene, &log);
    let (client, key, _) = holder_and_pid(&scene, &spec);
    let moved = scene.root().join("moved.log");
    fs::rename(&log, &moved).expect("rename");
    fs::write(&log, "another program's").expect("write");
    max_while_writing(&scene, || 0);
    assert_eq!(size(&moved), 20_000_000, "the renamed log is not truncated");
    assert_eq!(fs::read_to_string(&log).expect("read"), "another program's");
    assert!(!rotated(&log).exists());
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn log_is_not_truncated_if_its_end_cannot_be_saved() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud_service(&scene, &log);
    fs::create_dir(rotated(&log)).expect("create");
    let (client, key, _) = holder_and_pid(&scene, &spec);
    max_while_writing(&scene, || 0);
    assert_eq!(size(&log), 20_000_000);
    // The supervisor also stops trying when the service is silent.
    let supervisor = scene.only_supervisor(&spec);
    wait_until_idle(supervisor);
    client.kill();
    scene.wait_removed(&spec, key);
}

#[test]
fn g3_supervisor_of_a_silent_service_never_wakes() {
    let scene = scene!();
    let log = scene.root().join("service.log");
    let spec = loud_service(&scene, &log);
    let (client, key, _) = holder_and_pid(&scene, &spec);
    let supervisor = scene.only_supervisor(&spec);
    let before = wait_until_idle(supervisor);
    assert_stays_asleep(supervisor, &before);
    // The same holds after the service has written a lot.
    max_while_writing(&scene, || 0);
    assert_ne!(
        wake_ups(supervisor),
        before,
        "the supervisor wakes while the log grows"
    );
    let before = wait_until_idle(supervisor);
    assert_stays_asleep(supervisor, &before);
    client.kill();
    scene.wait_removed(&spec, key);
}

#[track_caller]
fn assert_stays_asleep(supervisor: Identity, before: &str) {
    // No event shows that nothing happens. The supervisor pauses for at most a second between two
    // checks.
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
    let spec = shell_service(&scene, &script, &log).with_stop_timeout_ms(600_000);
    let (client, key, _) = holder_and_pid(&scene, &spec);
    client.kill();
    let most = max_while_writing(&scene, || size(&log) + size(&rotated(&log)));
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
        let spec = shell_service(&scene, &script, &log);
        let client = scene.actor();
        let key = client.build(&spec);
        let held = client.acquire();
        fs::write(scene.root().join("go"), "").expect("write");
        let output = deadline::until("the supervisor writes a line", || {
            let output = fs::read_to_string(&log).expect("read");
            output.ends_with('\n').then_some(output)
        });
        assert!(output.starts_with("procref: `sh` "), "{output}");
        assert!(output.contains(expected), "{output}");
        assert_eq!(
            output.contains("stay in the foreground"),
            advice,
            "{output}"
        );
        assert_eq!(output.lines().count(), 1, "{output}");
        // Release the handle, because no supervisor exists that could clean up after a killed client.
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
    let spec = shell_service(&scene, "exec sleep 1000", &log);
    let client = scene.actor();
    let key = client.build(&spec);
    let held = client.acquire();
    let service = Identity::of(held.got.pid).expect("the process is alive");
    service.signal(Signal::TERM);
    service.wait_exit();
    // The supervisor stays until the last client has released the dead service.
    client.release(&held);
    deadline::until_true("the supervisor exits", || {
        procref_testkit::observe::supervisors_of(&spec.name).is_empty()
    });
    assert_eq!(fs::read_to_string(&log).expect("read"), "");
    scene.wait_removed(&spec, key);
}
