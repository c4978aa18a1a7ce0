//! Helpers that the test files of the command line share.

#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod exports;
pub mod sandbox;
pub mod workspace;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use procref_testkit::kernel;
use procref_testkit::observe::Identity;

/// The path of the program under test.
pub const PROCREF: &str = env!("CARGO_BIN_EXE_procref");

/// The id of a user that is not root and owns nothing.
pub const NOBODY: u32 = 65534;

/// The options of `setpriv` that run a program as [`NOBODY`].
pub const AS_NOBODY: [&str; 6] = [
    "--reuid",
    "65534",
    "--regid",
    "65534",
    "--clear-groups",
    "--",
];

/// Environment variables of the developer or of a CI system that change what procref prints.
///
/// With `CI`, for example, a terminal has colors even if it is `dumb`.
pub const OUTPUT_VARIABLES: [&str; 7] = [
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "NO_COLOR",
    "RUST_LOG",
];

/// Returns the path as text.
pub fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns `true` if the file is a log that stays after its service has stopped.
pub fn is_kept_log(path: &Path) -> bool {
    let name = path_text(path);
    name.ends_with(".kept.log") || name.ends_with(".kept.log.1")
}

/// Returns `true` if the file records that keepers count the clients, and the tests run with keepers.
///
/// The file stays as long as its directory. No other kernel has such a file.
pub fn is_kernel_choice(path: &Path) -> bool {
    kernel::is_keeper() && path.ends_with("kernel")
}

/// Returns the standard output and the standard error as text.
pub fn output_text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must succeed, and returns its standard output.
#[track_caller]
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("run the command");
    let (out, err) = output_text(&output);
    let status = output.status;
    assert!(status.success(), "{command:?}: {status}\n{out}\n{err}");
    out
}

/// Sets and removes the environment variables of `to` that are set and removed in `from`.
pub fn copy_environment(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

/// The options of `unshare` that let a user without privileges create other namespaces.
pub fn user_namespace() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--user", "--map-root-user"]
    }
}

/// Creates a named pipe. A reader blocks until [`open_gate`] writes to it.
pub fn create_gate(path: PathBuf) -> PathBuf {
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU)
        .expect("create a named pipe");
    path
}

/// Writes a line to a named pipe, and blocks until a process reads from it.
pub fn open_gate(gate: &Path) {
    std::fs::write(gate, "go\n").expect("write to the named pipe");
}

/// Returns the process with this pid, which must be alive.
#[track_caller]
pub fn live_process(pid: &str) -> Identity {
    let pid = pid.trim().parse().expect("a pid");
    Identity::of(pid).unwrap_or_else(|| panic!("process {pid} is not alive"))
}

/// Asserts that the first line of an error message contains these parts.
#[track_caller]
pub fn assert_first_line(message: &str, parts: &[&str]) {
    let first = message.lines().next().unwrap_or_default();
    for part in parts {
        assert!(
            first.contains(part),
            "{part:?} is not in the first line of: {message}"
        );
    }
}

/// Returns the mask of signals in a field of `/proc/PID/status`, such as `SigIgn`.
#[track_caller]
pub fn signal_mask(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal.trim(), 16).expect("a hexadecimal number")
}
