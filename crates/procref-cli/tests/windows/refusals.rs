//! What is not there on Windows says so, and nothing is started.

use crate::sandbox::{Stage, service};

#[test]
fn options_unavailable_on_windows_are_refused() {
    let stage = Stage::new();
    let start = service();
    for (args, code, expected) in [
        (
            &["--ready", "unix:/tmp/socket"][..],
            2,
            "no `unix` on Windows",
        ),
        (&["--ready", "notify"], 2, "no `notify` on Windows"),
        (&["--ready", "pipe:"], 2, "write the pipe's name"),
        (
            &["--linger", "5s"],
            2,
            "on Windows the service ends with its last client",
        ),
    ] {
        let mut command = stage.procref(["hold", "db", "--start", &start]);
        let done = crate::sandbox::finish(crate::sandbox::Piped::piped(command.args(args)));
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(done.err.contains(expected), "{done:?}");
    }
    let done = stage.done([
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
            .contains("`--watch-client` is not there on Windows"),
        "{done:?}"
    );
    let done = stage.done(["demo"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.err.contains("`demo` is not there on Windows"),
        "{done:?}"
    );
    assert!(stage.life().is_empty());
}
