//! `run` and `hold`.

use std::fs;

use procref::process::Process;
use procref_testkit::process::Key;

use crate::sandbox::{
    INTERRUPTED, LONG, Piped as _, Stage, ask, client, deaf, ending_with, finish, line, service,
};

#[test]
fn run_starts_the_service_and_returns_the_clients_exit_code() {
    // All 32 bits of it: crashes have codes that are negative.
    for code in [0, 7, 300, -1073741819] {
        let stage = Stage::new();
        let mut command =
            stage.procref(["run", "db", "--start", &service(), "--port", "auto", "--"]);
        let done = finish(ending_with(command.args(client()), code).piped());
        assert_eq!(done.code, Some(code), "{done:?}");
        let lives = stage.lives();
        let pid = lives[0].1;
        assert!(
            done.out.contains(&format!("answer of db: {pid}\n")),
            "{done:?}"
        );
        // It was the last one, so the service was asked to stop, and has.
        assert_eq!(stage.life(), ["started", "asked"]);
    }
}

#[test]
fn clients_share_one_instance_until_the_last_one_ends() {
    let stage = Stage::new();
    let start = service();
    let args = ["hold", "db", "--start", &start, "--port", "auto", "--json"];
    let mut holders: Vec<_> = (0..4).map(|_| stage.procref(args).piped()).collect();
    let told: Vec<serde_json::Value> = holders
        .iter_mut()
        .map(|holder| serde_json::from_str(&line(holder)).unwrap())
        .collect();
    assert!(
        told.iter().all(|it| it["pid"] == told[0]["pid"]),
        "{told:?}"
    );
    let port = told[0]["port"].as_u64().unwrap() as u16;
    assert_eq!(
        u64::from(ask(port).unwrap()),
        told[0]["pid"].as_u64().unwrap()
    );
    while let Some(holder) = holders.pop() {
        assert_eq!(stage.life(), ["started"]);
        assert!(ask(port).is_ok());
        procref::process::terminate(holder.id());
        let done = finish(holder);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert_eq!(stage.life(), ["started", "asked"]);
    assert!(ask(port).is_err());
}

#[test]
fn g2_killed_holder_is_not_counted_and_kernel_ends_service() {
    let stage = Stage::new();
    let start = service();
    let mut holder = stage
        .procref(["hold", "db", "--start", &start, "--port", "auto"])
        .piped();
    assert!(line(&mut holder).starts_with("db: "));
    let pid = stage.lives()[0].1;
    let service = Process::open(pid).unwrap();
    holder.crash();
    assert!(service.wait(LONG).unwrap());
    // Hard: nobody is left who could have asked it.
    assert_eq!(stage.life(), ["started"]);
    let done = stage.done([
        "wait",
        "db",
        "--allow-unknown",
        "--stopped",
        "--timeout",
        "60s",
    ]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn client_outlives_its_killed_procref_without_a_reference() {
    let stage = Stage::new();
    let mut command = stage.procref(["run", "db", "--start", &service(), "--port", "auto", "--"]);
    let mut run = ending_with(command.args(client()), INTERRUPTED).piped();
    while !line(&mut run).contains("listens to the keyboard") {}
    let [(_, service), (_, client)] = stage.lives()[..] else {
        panic!("{:?}", stage.lives());
    };
    let [service, client] = [service, client].map(|pid| Process::open(pid).unwrap());
    run.crash();
    assert!(service.wait(LONG).unwrap());
    assert!(client.is_alive());
    client.kill().unwrap();
}

#[test]
fn service_without_a_stop_event_is_killed() {
    let stage = Stage::new();
    let mut command = stage.procref(["run", "db", "--start", &service(), "--port", "auto"]);
    let done = finish(
        command
            .args(["--env", &deaf(), "--"])
            .args(client())
            .piped(),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.err.contains("there is no way to ask it to end"),
        "{done:?}"
    );
    assert_eq!(stage.life(), ["started"]);
    assert!(!procref::process::is_alive(stage.lives()[0].1));
}

#[test]
fn client_script_is_found_by_its_name() {
    let stage = Stage::new();
    let programs = stage.path("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(programs.join("tool.cmd"), "@exit /b 5\r\n").unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = stage.procref(["run", "db", "--start", &service(), "--port", "auto"]);
    command.env("PATH", format!("{};{path}", programs.display()));
    let done = finish(command.args(["--", "tool"]).piped());
    assert_eq!(done.code, Some(5), "{done:?}");
}

#[test]
fn missing_client_is_reported_and_the_service_stopped() {
    let stage = Stage::new();
    let start = service();
    let done = stage.done([
        "run",
        "db",
        "--start",
        &start,
        "--port",
        "auto",
        "--",
        "no-such-program",
    ]);
    assert_eq!(done.code, Some(127), "{done:?}");
    assert!(
        done.err
            .contains("could not execute the client `no-such-program`"),
        "{done:?}"
    );
    assert_eq!(stage.life(), ["started", "asked"]);
}

#[test]
fn hold_fails_when_the_service_dies() {
    let stage = Stage::new();
    let start = service();
    let mut holder = stage
        .procref(["hold", "db", "--start", &start, "--port", "auto"])
        .piped();
    line(&mut holder);
    procref::process::kill(stage.lives()[0].1);
    let done = finish(holder);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("service `db` has ended"), "{done:?}");
}

/// With a stop signal that puts the service on the same console: it is not the service's key.
fn run_and_press(key: Key) {
    let stage = Stage::new();
    let start = service();
    let [own, exact, part, captured] = client();
    let mut command = stage.on_terminal(
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
            &own,
            &exact,
            &part,
            &captured,
        ],
    );
    let mut run = ending_with(&mut command, INTERRUPTED).piped();
    while !line(&mut run).contains("listens to the keyboard") {}
    run.press();
    let done = finish(run);
    assert_eq!(done.code, Some(9), "{done:?}");
    assert_eq!(stage.life(), ["started", "waits", "interrupted", "asked"]);
}

#[test]
fn ctrl_c_goes_to_the_client_and_its_exit_code_is_returned() {
    run_and_press(Key::C);
}

fn hold_and_press(key: Key) {
    let stage = Stage::new();
    let start = service();
    let mut holder = stage
        .on_terminal(key, &["hold", "db", "--start", &start, "--port", "auto"])
        .piped();
    while !line(&mut holder).starts_with("db: ") {}
    holder.press();
    let done = finish(holder);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(stage.life(), ["started", "asked"]);
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
