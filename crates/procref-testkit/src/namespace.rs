//! Tests in separate kernel namespaces.
//!
//! A test that could signal unrelated processes needs a PID namespace, to protect the developer's session. A test that
//! changes the limits in `kernel.sem` needs an IPC namespace, because otherwise they apply to the whole machine.

use std::env;
use std::process::Command;

/// Set for the test in the new namespace.
const INSIDE: &str = "PROCREF_TESTKIT_INSIDE";

/// Set by users whose system allows no namespaces, to skip these tests.
const SKIP: &str = "PROCREF_TESTKIT_SKIP_NAMESPACES";

/// The namespace that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A PID namespace, with a matching `/proc`.
    Pid,
    /// An IPC namespace, for System V objects and their limits.
    Ipc,
}

/// Runs `body` in a new namespace.
///
/// `test` is the name of the calling test. This function runs that test again in a child in the new namespace, and there
/// it calls `body`. `init` is a program that becomes pid 1 of a PID namespace. Its arguments are the test's command
/// line.
///
/// # Panics
///
/// Panics if the test fails in the namespace, or if the namespace cannot be created.
#[track_caller]
#[expect(clippy::print_stderr, reason = "a skipped test prints a message")]
pub fn run(wanted: Wanted, test: &str, init: Option<&str>, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        body();
        return;
    }
    if env::var_os(SKIP).is_some() {
        eprintln!("SKIPPED {test}: {SKIP} is set");
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--kill-child"]);
    match wanted {
        Wanted::Pid => unshare.args(["--pid", "--mount-proc"]),
        Wanted::Ipc => unshare.args(["--ipc"]),
    };
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg("--");
    unshare.args(init);
    let own = env::current_exe().expect("the test's own program");
    unshare
        .arg(own)
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(INSIDE, "1");
    let output = unshare.output().expect("run unshare");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{test} failed in its namespace, or the system allows no namespaces (set {SKIP}=1 to skip the test):\n\
         {}\n{out}\n{err}",
        output.status
    );
}
