//! A program that tells by its exit status.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::windows::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use super::watch::{Found, Watch, Woken};
use crate::error::ended;

/// How long one run may take. More than a connection may, because starting an interpreter or a virtual
/// machine alone can take seconds on a busy machine, and it would never be done.
const RUN: Duration = Duration::from_secs(10);

/// How often it is looked whether a run has ended: only one process can be waited for at a time, and that
/// is the service.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A program with everything it is run with.
pub(crate) struct Trial {
    pub(crate) program: PathBuf,
    /// As it was named, for people.
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
            .stderr(Stdio::null())
            .creation_flags(CREATE_NO_WINDOW);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Found::NotYet(format!("it could not be run: {error}")),
        };
        let watch = watch.at_most(RUN);
        let limit = watch.left();
        match wait(&mut child, &watch) {
            Ok(Ok(status)) if ExitStatus::success(&status) => Found::Ready,
            Ok(Ok(status)) => Found::NotYet(format!("it {}", ended(status))),
            Ok(Err(woken)) => {
                if let Err(error) = child.kill() {
                    tracing::debug!(%error, "could not kill a readiness command");
                }
                match woken {
                    Woken::Alarm => Found::Alarm,
                    Woken::Time => Found::NotYet(format!("it did not end within {limit:.1?}")),
                }
            }
            Err(error) => Found::NotYet(format!("its exit status is not to be had: {error}")),
        }
    }
}

/// Its exit status, or what came before it had one.
fn wait(child: &mut Child, watch: &Watch<'_>) -> io::Result<Result<ExitStatus, Woken>> {
    loop {
        if let Some(status) = child.try_wait()? {
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
