//! Options and commands that are not available on Windows are refused before the service is started.

use crate::sandbox::{Sandbox, SpawnPiped as _, finish, service_command};

#[test]
fn options_unavailable_on_windows_are_refused() {
    let sandbox = Sandbox::new();
    let start = service_command();
    for (args, code, expected) in [
        (
            &["--ready", "unix:/tmp/socket"][..],
            2,
            "`unix` is not supported on Windows",
        ),
        (
            &["--ready", "notify"],
            2,
            "`notify` is not supported on Windows",
        ),
        (&["--ready", "pipe:"], 2, "the pipe's name is missing"),
        (
            &["--linger", "5s"],
            2,
            "on Windows the service ends with its last client",
        ),
    ] {
        let mut command = sandbox.procref(["hold", "db", "--start", &start]);
        let done = finish(command.args(args).spawn_piped());
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.err.contains(expected), "{done:?}");
    }
    let done = sandbox.run([
        "run",
        "db",
        "--start",
        &start,
        "--watch-client",
        "--",
        "cmd",
    ]);
    assert_eq!(done.code, Some(125), "{done:?}");
    assert!(
        done.err
            .contains("`--watch-client` is not supported on Windows"),
        "{done:?}"
    );
    let done = sandbox.run(["demo"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.err.contains("`demo` is not supported on Windows"),
        "{done:?}"
    );
    assert!(sandbox.events().is_empty());
}
