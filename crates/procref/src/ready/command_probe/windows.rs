//! A run without a window. Only one process can be waited for at a time, and that is the service.

use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use super::{Trial, Watch, Woken};

/// How often it is looked whether a run has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A program that runs.
pub(super) struct Run(Child);

impl Run {
    pub(super) fn start(trial: &Trial) -> io::Result<Self> {
        let mut command = Command::new(&trial.program);
        command
            .args(&trial.args)
            .env_clear()
            .envs(trial.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&trial.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .creation_flags(CREATE_NO_WINDOW);
        command.spawn().map(Self)
    }

    /// Its exit status, or what came before it had one.
    pub(super) fn wait(&mut self, watch: &Watch<'_>) -> io::Result<Result<ExitStatus, Woken>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
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

    pub(super) fn end(mut self) {
        if let Err(error) = self.0.kill() {
            tracing::debug!(%error, "could not kill a readiness command");
        }
    }
}

/// Returns `true` if the file is not a program for this machine: `ERROR_BAD_EXE_FORMAT`.
pub(super) fn is_no_program(error: &io::Error) -> bool {
    error.raw_os_error() == Some(193)
}
