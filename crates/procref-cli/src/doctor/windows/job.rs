//! Whether a service can outlive the job that this process is in: by trying it.

use std::env;
use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::super::probe::SUBCOMMAND;
use super::{Finding, Severity};

const CHECK: &str = "job";

/// CREATE_BREAKAWAY_FROM_JOB and CREATE_NO_WINDOW.
const BREAKAWAY: u32 = 0x0100_0000;
const NO_WINDOW: u32 = 0x0800_0000;

const ACCESS_DENIED: i32 = 5;

pub(super) fn look() -> Finding {
    match start(BREAKAWAY | NO_WINDOW) {
        Ok(()) => Finding::ok(
            CHECK,
            "jobs: a service that is started from here is not bound to a job of whoever started this process",
        ),
        Err(error) if error.raw_os_error() == Some(ACCESS_DENIED) && start(NO_WINDOW).is_ok() => {
            Finding::new(
                CHECK,
                Severity::Warning,
                "jobs: this process is in a job that does not allow breakaway (a CI runner's, an editor's): a \
                 service that is started from here may end with that job, whoever else holds it",
            )
            .advice("start it from outside of that, by `procref hold` in a console of its own")
        }
        Err(error) => Finding::new(
            CHECK,
            Severity::Warning,
            format!("jobs: no process could be started to find out about them: {error}"),
        ),
    }
}

/// Starts a process with these flags: this very program, which has nothing to do and ends.
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
