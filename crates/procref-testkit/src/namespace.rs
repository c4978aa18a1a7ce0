//! Tests that need a machine of their own run themselves again inside new
//! kernel namespaces.
//!
//! A PID namespace, because a test of "nobody else is signalled" must not try
//! it out on the developer's session; an IPC namespace, because the limits of
//! `kernel.sem` are the whole machine's otherwise.

use std::env;
use std::process::Command;

const INSIDE: &str = "PROCREF_TESTKIT_INSIDE";

/// Set by those who cannot have namespaces and accept not to run these tests.
const SKIP: &str = "PROCREF_TESTKIT_SKIP_NAMESPACES";

/// Which namespaces a test wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// PIDs of its own, `/proc` with them.
    Pid,
    /// System V objects and their limits of its own.
    Ipc,
}

/// Runs `body` in namespaces of its own.
///
/// `test` is the name of the calling test, which is run once more, alone, in
/// a child: there this function calls `body`. `init` is a program that becomes
/// pid 1 of a PID namespace, with the test's command line as its arguments.
///
/// # Panics
///
/// When the test fails in there, or when namespaces cannot be had.
#[track_caller]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
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
        "{test} failed in its namespace, or there can be none here (set {SKIP}=1 to do without):\n\
         {}\n{out}\n{err}",
        output.status
    );
}
