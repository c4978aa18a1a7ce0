//! A probe that runs a program and checks its exit status.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::wait::{ProbeResult, ReadinessWait, WakeReason};
use crate::error::{exec_advice, exit_clause};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod output;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;
#[cfg(windows)]
use windows as sys;

/// The time limit of one run. It is longer than that of a connection. Starting an interpreter or a virtual
/// machine can take seconds on a busy machine, and with a shorter limit no run would finish.
const RUN: Duration = Duration::from_secs(10);

/// A program with its arguments and environment.
pub(crate) struct CommandProbe {
    pub(crate) program: PathBuf,
    /// The program as given, for `argv[0]` and for messages.
    pub(crate) name: OsString,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) dir: PathBuf,
}

impl CommandProbe {
    /// Runs the program once.
    pub(super) fn run(&self, watch: &ReadinessWait<'_>) -> ProbeResult {
        let mut run = match sys::Run::start(self) {
            Ok(run) => run,
            Err(error) => return refused(&error),
        };
        let watch = watch.one_attempt(RUN);
        let limit = watch.left();
        match run.wait(&watch) {
            Ok(Ok(status)) if ExitStatus::success(&status) => ProbeResult::Ready,
            Ok(Ok(status)) => {
                let (exit, output) = (exit_clause(status), printed(run.output()));
                ProbeResult::NotYet(format!("it {exit}{}{output}", advice(status)))
            }
            Ok(Err(woken)) => {
                let output = printed(run.output());
                run.end();
                match woken {
                    WakeReason::Alarm => ProbeResult::Alarm,
                    _ => ProbeResult::NotYet(format!("it did not end within {limit:.1?}{output}")),
                }
            }
            Err(error) => refused(&error),
        }
    }
}

/// Returns the last lines of a run's output, as the end of a message.
fn printed(output: &[u8]) -> String {
    const LINES: usize = 3;
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join(" | ");
    let last: String = last
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match last.is_empty() {
        true => String::new(),
        false => format!(", and printed: {last}"),
    }
}

fn refused(error: &io::Error) -> ProbeResult {
    let reason = format!("could not run it: {error}{}", exec_advice(error));
    match is_lasting(error) {
        true => ProbeResult::Unusable(reason),
        false => ProbeResult::NotYet(reason),
    }
}

/// Returns `true` if a later run cannot succeed either, because the program is missing or not a program.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    ) || sys::is_no_program(error)
}

/// Explains the exit statuses that a shell uses if it cannot run a program.
fn advice(status: ExitStatus) -> &'static str {
    match status.code() {
        Some(126) => " (a shell's status for a program that it may not execute)",
        Some(127) => " (a shell's status for a program that it did not find)",
        _ => "",
    }
}

impl fmt::Display for CommandProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}", self.name.to_string_lossy())?;
        for arg in &self.args {
            write!(f, " {}", arg.to_string_lossy())?;
        }
        f.write_str("` to exit with status 0")
    }
}
