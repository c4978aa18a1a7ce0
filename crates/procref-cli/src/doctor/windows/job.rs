//! Checks whether a service can outlive the job of this process, by starting a process outside of the job.

use std::env;
use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::doctor::finding::{Finding, Severity};
use crate::doctor::probe::SUBCOMMAND;

const CHECK: &str = "job";

/// CREATE_BREAKAWAY_FROM_JOB and CREATE_NO_WINDOW.
const BREAKAWAY: u32 = 0x0100_0000;
const NO_WINDOW: u32 = 0x0800_0000;

const ACCESS_DENIED: i32 = 5;

pub(super) fn check() -> Finding {
    match start(BREAKAWAY | NO_WINDOW) {
        Ok(()) => Finding::ok(
            CHECK,
            "jobs: a service that this process starts does not belong to the job of this process",
        ),
        Err(error) if error.raw_os_error() == Some(ACCESS_DENIED) && start(NO_WINDOW).is_ok() => {
            Finding::new(
                CHECK,
                Severity::Warning,
                "jobs: this process is in a job that does not allow breakaway (of a CI runner or an editor): a service \
                 that this process starts may be killed with that job, even if other clients hold it",
            )
            .advice("start the service outside of that job, with `procref hold` in a separate console")
        }
        Err(error) => Finding::new(
            CHECK,
            Severity::Warning,
            format!("jobs: could not start a process to check them: {error}"),
        ),
    }
}

/// Starts this program with these creation flags. The started process does nothing and exits.
fn start(flags: u32) -> io::Result<()> {
    let mut child = Command::new(env::current_exe()?)
        .args([SUBCOMMAND, "--nothing"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(flags)
        .spawn()?;
    child.wait().map(drop)
}
