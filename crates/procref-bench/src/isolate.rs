//! Where a measurement runs: in PID and IPC namespaces of its own.
//!
//! Thousands of processes and semaphore sets come and go, some of them made by programs that do not
//! clean up after a crash, and some contenders signal bare pids. In there they can reach nobody else,
//! and when the first process of the namespace ends, the kernel ends and removes everything, after
//! Ctrl-C and SIGKILL, too.

use std::env;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

/// The first process in there: it reaps whatever loses its parent. What the contenders write goes to
/// memory, because some file systems make a file that is written again wait for the disk.
const INIT: &str = r#"mount -t tmpfs procref-bench "$0" && "$@"; exit $?"#;

/// Runs this program's `measure` in there, with the same options.
pub fn run() -> ExitCode {
    // They end the measurement, which gets Ctrl-C from the terminal, too. Here is only cleaned up.
    for signal in [SIGINT, SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let scratch = match tempfile::Builder::new().prefix("procref-bench").tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("procref-bench: no temporary directory: {error}");
            return ExitCode::FAILURE;
        }
    };
    let own = env::current_exe().expect("the program's own path");
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--kill-child", "--pid", "--mount-proc", "--ipc"]);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--", "sh", "-c", INIT]).arg(scratch.path());
    unshare.arg(own).args(env::args_os().skip(1));
    unshare.arg("measure").arg(scratch.path());
    match unshare.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("procref-bench: the measurement ended with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("procref-bench: unshare (of util-linux) cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}
