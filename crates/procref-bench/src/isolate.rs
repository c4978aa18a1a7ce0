//! Runs a measurement in new PID, IPC and mount namespaces.
//!
//! A measurement creates thousands of processes and semaphore sets. Some contenders do not clean up after a
//! crash, and some signal pids without checking the process. In the namespaces they cannot reach other
//! processes. When the first process of the PID namespace exits, even after Ctrl-C or SIGKILL, the kernel
//! kills all processes and removes all semaphore sets.

use std::env;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

/// The first process in the namespace. It reaps orphans. The files of the contenders are in memory, because some file
/// systems delay a rewritten file until it is on disk.
const INIT: &str = r#"mount -t tmpfs procref-bench "$0" && "$@"; exit $?"#;

/// Runs this program's role `measure` in the namespaces, with the same options.
pub fn run() -> ExitCode {
    // The terminal also sends Ctrl-C to the measurement, which exits. This process must survive to clean up.
    for signal in [SIGINT, SIGTERM] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let scratch = match tempfile::Builder::new().prefix("procref-bench").tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("procref-bench: could not create a temporary directory: {error}");
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
            eprintln!("procref-bench: the measurement failed with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("procref-bench: could not run unshare (install util-linux): {error}");
            ExitCode::FAILURE
        }
    }
}
