//! Runs the program without a window. Windows cannot wait for the program and the service together, so the
//! program is polled.

use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use super::{CommandProbe, ReadinessWait, WakeReason};

/// The interval at which the end of a run is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running program.
pub(super) struct Run(Child);

impl Run {
    pub(super) fn start(trial: &CommandProbe) -> io::Result<Self> {
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

    /// Waits for the exit status, the alarm or the end of the time.
    pub(super) fn wait(
        &mut self,
        watch: &ReadinessWait<'_>,
    ) -> io::Result<Result<ExitStatus, WakeReason>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Ok(status));
            }
            if watch.is_over() {
                return Ok(Err(WakeReason::Time));
            }
            if watch.at_most(LOOK_AGAIN).rest() == WakeReason::Alarm {
                return Ok(Err(WakeReason::Alarm));
            }
        }
    }

    /// Returns nothing: the output would need a thread for each pipe.
    #[expect(
        clippy::unused_self,
        reason = "the other systems read a pipe of the run"
    )]
    pub(super) fn output(&self) -> &[u8] {
        &[]
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
