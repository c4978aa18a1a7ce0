//! A program that tells by its exit status.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::wait::{Found, Watch, Woken};
use crate::error::{ended, exec_advice};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// How long one run may take. More than a connection may, because starting an interpreter or a virtual
/// machine alone can take seconds on a busy machine, and it would never be done.
const RUN: Duration = Duration::from_secs(10);

/// A program with everything it is run with.
pub(crate) struct Trial {
    pub(crate) program: PathBuf,
    /// As it was named, for `argv[0]` and for people.
    pub(crate) name: OsString,
    pub(crate) args: Vec<OsString>,
    /// All of its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) dir: PathBuf,
}

impl Trial {
    /// Runs it once.
    pub(super) fn run(&self, watch: &Watch<'_>) -> Found {
        let mut run = match sys::Run::start(self) {
            Ok(run) => run,
            Err(error) => return refused(&error),
        };
        let watch = watch.one_attempt(RUN);
        let limit = watch.left();
        match run.wait(&watch) {
            Ok(Ok(status)) if ExitStatus::success(&status) => Found::Ready,
            Ok(Ok(status)) => Found::NotYet(format!("it {}{}", ended(status), advice(status))),
            Ok(Err(woken)) => {
                run.end();
                match woken {
                    Woken::Alarm => Found::Alarm,
                    _ => Found::NotYet(format!("it did not end within {limit:.1?}")),
                }
            }
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &io::Error) -> Found {
    let reason = format!("it could not be run: {error}{}", exec_advice(error));
    match is_lasting(error) {
        true => Found::Unusable(reason),
        false => Found::NotYet(reason),
    }
}

/// Returns `true` if the program cannot be run later either: it is missing, or is no program.
fn is_lasting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    ) || sys::is_no_program(error)
}

/// Explains the exit statuses by which a shell reports a program that it could not run.
fn advice(status: ExitStatus) -> &'static str {
    match status.code() {
        Some(126) => " (a shell's status for a program that it may not execute)",
        Some(127) => " (a shell's status for a program that it did not find)",
        _ => "",
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}", self.name.to_string_lossy())?;
        for arg in &self.args {
            write!(f, " {}", arg.to_string_lossy())?;
        }
        f.write_str("` to exit with status 0")
    }
}
