//! `hold` with `--stdin` and `--for-pid`, and `run` with several services.

use std::process::Stdio;

use crate::sandbox::{Sandbox, SpawnPiped as _, finish, next_line, service_command, write};

#[test]
fn hold_stdin_releases_the_service_at_end_of_input() {
    let sandbox = Sandbox::new();
    let start = service_command();
    let mut command = sandbox.procref(["hold", "db", "--start", &start, "--port", "auto"]);
    let mut holder = command.arg("--stdin").stdin(Stdio::piped()).spawn_piped();
    assert!(next_line(&mut holder).starts_with("db: "));
    assert_eq!(sandbox.events(), ["started"]);
    // This closes the input of the command.
    let done = finish(holder);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(sandbox.events(), ["started", "stopping"]);
}

#[test]
fn hold_for_pid_releases_the_service_when_the_process_exits() {
    let sandbox = Sandbox::new();
    let other = sandbox.hold();
    let pid = other.id().to_string();
    let start = service_command();
    let args = ["hold", "db", "--start", &start, "--port", "auto"];
    let mut command = sandbox.procref(args);
    let mut holder = command.args(["--for-pid", &pid]).spawn_piped();
    assert!(next_line(&mut holder).starts_with("db: "));
    other.kill();
    let done = finish(holder);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(sandbox.events(), ["started", "stopping"]);
    let done = sandbox.run(["hold", "db", "--start", &start, "--for-pid", &pid]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("no such process"), "{done:?}");
}

#[test]
fn run_holds_several_services_until_the_client_ends() {
    let sandbox = Sandbox::new();
    let start = service_command();
    let service = |name: &str| format!("[services.{name}]\nstart = '''{start}'''\nport = 'auto'\n");
    let config = format!("default = ['a', 'b']\n{}{}", service("a"), service("b"));
    write(&sandbox.path("here").join("procref.toml"), &config);
    let mut command = sandbox.procref(["run", "--", "cmd", "/c"]);
    command.arg("if defined PROCREF_PORT_A if defined PROCREF_PORT_B exit 7");
    let done = finish(command.spawn_piped());
    assert_eq!(done.code, Some(7), "{done:?}");
    let mut events = sandbox.events();
    events.sort_unstable();
    assert_eq!(events, ["started", "started", "stopping", "stopping"]);
}
