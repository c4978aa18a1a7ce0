//! `run` and `hold`.

use std::fs;

use procref::process::Process;
use procref_testkit::process::Key;

use crate::sandbox::{
    INTERRUPTED, LONG, Sandbox, SpawnPiped as _, client_command, finish, next_line, no_stop_event,
    query_pid, service_command, with_exit_code,
};

#[test]
fn run_starts_the_service_and_returns_the_clients_exit_code() {
    // procref returns all 32 bits: the exit codes of crashes are negative.
    for code in [0, 7, 300, -1073741819] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.run_db();
        command.arg("--").args(client_command());
        let done = finish(with_exit_code(&mut command, code).spawn_piped());
        assert_eq!(done.code, Some(code), "{done:?}");
        let pid = sandbox.events_with_pids()[0].1;
        assert!(
            done.out.contains(&format!("answer of db: {pid}\n")),
            "{done:?}"
        );
        // The client was the last one, so procref has stopped the service.
        assert_eq!(sandbox.events(), ["started", "stopping"]);
    }
}

#[test]
fn clients_share_one_instance_until_the_last_one_ends() {
    let sandbox = Sandbox::new();
    let start = service_command();
    let args = ["hold", "db", "--start", &start, "--port", "auto", "--json"];
    let mut holders: Vec<_> = (0..4)
        .map(|_| sandbox.procref(args).spawn_piped())
        .collect();
    let reports: Vec<serde_json::Value> = holders
        .iter_mut()
        .map(|holder| serde_json::from_str(&next_line(holder)).unwrap())
        .collect();
    assert!(
        reports.iter().all(|it| it["pid"] == reports[0]["pid"]),
        "{reports:?}"
    );
    let port = reports[0]["port"].as_u64().unwrap() as u16;
    assert_eq!(
        u64::from(query_pid(port).unwrap()),
        reports[0]["pid"].as_u64().unwrap()
    );
    while let Some(holder) = holders.pop() {
        assert_eq!(sandbox.events(), ["started"]);
        query_pid(port).expect("an answer of the service");
        procref::process::terminate(holder.id());
        let done = finish(holder);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert_eq!(sandbox.events(), ["started", "stopping"]);
    assert!(query_pid(port).is_err());
}

#[test]
fn g2_killed_holder_is_not_counted_and_kernel_ends_service() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold();
    let pid = sandbox.events_with_pids()[0].1;
    let service = Process::open(pid).unwrap();
    holder.kill();
    assert!(service.wait(LONG).unwrap());
    // The kernel kills the service: no process remains that could request a stop.
    assert_eq!(sandbox.events(), ["started"]);
    sandbox.wait_stopped();
}

#[test]
fn client_outlives_its_killed_procref_without_a_reference() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.run_db();
    command.arg("--").args(client_command());
    let mut run = with_exit_code(&mut command, INTERRUPTED).spawn_piped();
    while !next_line(&mut run).contains("listens to the keyboard") {}
    let [(_, service), (_, client)] = sandbox.events_with_pids()[..] else {
        panic!("{:?}", sandbox.events_with_pids());
    };
    let [service, client] = [service, client].map(|pid| Process::open(pid).unwrap());
    run.kill();
    assert!(service.wait(LONG).unwrap());
    assert!(client.is_alive());
    client.kill().unwrap();
}

#[test]
fn service_without_a_stop_event_is_killed() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.run_db();
    let done = finish(
        command
            .args(["--env", &no_stop_event(), "--"])
            .args(client_command())
            .spawn_piped(),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.err.contains("the service accepts no stop signal"),
        "{done:?}"
    );
    assert_eq!(sandbox.events(), ["started"]);
    assert!(!procref::process::is_alive(sandbox.events_with_pids()[0].1));
}

#[test]
fn client_script_is_found_by_its_name() {
    let sandbox = Sandbox::new();
    let programs = sandbox.path("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("tool.cmd"), "@exit /b 5\r\n").unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = sandbox.run_db();
    command.env("PATH", format!("{};{path}", programs.display()));
    let done = finish(command.args(["--", "tool"]).spawn_piped());
    assert_eq!(done.code, Some(5), "{done:?}");
}

#[test]
fn missing_client_is_reported_and_the_service_stopped() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.run_db();
    let done = finish(command.args(["--", "no-such-program"]).spawn_piped());
    assert_eq!(done.code, Some(127), "{done:?}");
    assert!(
        done.err
            .contains("could not execute the client `no-such-program`"),
        "{done:?}"
    );
    assert_eq!(sandbox.events(), ["started", "stopping"]);
}

#[test]
fn hold_fails_when_the_service_dies() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold();
    procref::process::kill(sandbox.events_with_pids()[0].1);
    let done = finish(holder);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("service `db` has exited"), "{done:?}");
}

/// Presses a key while `run` waits for its client.
///
/// The stop signal puts the service on the same console. The service must not receive the key.
fn run_and_press(key: Key) {
    let sandbox = Sandbox::new();
    let start = service_command();
    let [program, exact, role, nocapture] = client_command();
    let mut command = sandbox.on_terminal(
        key,
        &[
            "run",
            "db",
            "--start",
            &start,
            "--port",
            "auto",
            "--stop-signal",
            "SIGINT",
            "--",
            &program,
            &exact,
            &role,
            &nocapture,
        ],
    );
    let mut run = with_exit_code(&mut command, INTERRUPTED).spawn_piped();
    while !next_line(&mut run).contains("listens to the keyboard") {}
    run.press();
    let done = finish(run);
    assert_eq!(done.code, Some(9), "{done:?}");
    assert_eq!(
        sandbox.events(),
        ["started", "waiting", "interrupted", "stopping"]
    );
}

#[test]
fn ctrl_c_goes_to_the_client_and_its_exit_code_is_returned() {
    run_and_press(Key::C);
}

fn hold_and_press(key: Key) {
    let sandbox = Sandbox::new();
    let start = service_command();
    let mut holder = sandbox
        .on_terminal(key, &["hold", "db", "--start", &start, "--port", "auto"])
        .spawn_piped();
    while !next_line(&mut holder).starts_with("db: ") {}
    holder.press();
    let done = finish(holder);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(sandbox.events(), ["started", "stopping"]);
}

#[test]
fn hold_releases_on_ctrl_c() {
    hold_and_press(Key::C);
}

#[test]
#[ignore = "Wine 8 delivers no Ctrl-Break; on Windows: --include-ignored"]
fn hold_releases_on_ctrl_break() {
    hold_and_press(Key::Break);
}
