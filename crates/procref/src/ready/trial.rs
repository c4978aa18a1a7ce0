//! A program that tells by its exit status.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::watch::{Found, Watch, Woken};
use crate::error::{ended, exec_advice};

#[cfg_attr(unix, path = "trial/unix.rs")]
#[cfg_attr(windows, path = "trial/windows.rs")]
mod sys;

/// How long one run may take. More than a connection may, because starting an interpreter or a virtual
/// machine alone can take seconds on a busy machine, and it would never be done.
const RUN: Duration = Duration::from_secs(10);

/// How often it is looked whether a run has ended, where that cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::prepare(&mut command, &self.name);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if is_lasting(&error) => return Found::Unusable(not_run(&error)),
            Err(error) => return Found::NotYet(not_run(&error)),
        };
        let watch = watch.one_attempt(RUN);
        let limit = watch.left();
        match sys::wait(&mut child, &watch) {
            Ok(Ok(status)) if ExitStatus::success(&status) => Found::Ready,
            Ok(Ok(status)) => Found::NotYet(format!("it {}{}", ended(status), advice(status))),
            Ok(Err(woken)) => {
                sys::end(&mut child);
                match woken {
                    Woken::Alarm => Found::Alarm,
                    _ => Found::NotYet(format!("it did not end within {limit:.1?}")),
                }
            }
            Err(error) => Found::NotYet(format!("its exit status is not to be had: {error}")),
        }
    }
}

fn not_run(error: &io::Error) -> String {
    format!("it could not be run: {error}{}", exec_advice(error))
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

/// Looks again and again: its exit status, or what came before it had one.
fn look_again(
    watch: &Watch<'_>,
    mut ended: impl FnMut() -> io::Result<Option<ExitStatus>>,
) -> io::Result<Result<ExitStatus, Woken>> {
    loop {
        if let Some(status) = ended()? {
            return Ok(Ok(status));
        }
        if watch.is_over() {
            return Ok(Err(Woken::Time));
        }
        if watch.at_most(LOOK_AGAIN).rest() == Woken::Alarm {
            return Ok(Err(Woken::Alarm));
        }
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
