//! Runs the program in its own process group, so that procref can kill it together with its children.
//!
//! The program is a child of this process. Its exit status comes from kqueue, which also has it if the host program ignores
//! SIGCHLD or waits for every child. Linux uses a monitor for that. Here, a fork without an exec would run code of the host's
//! frameworks, which do not support that.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use procref_supervisor::kqueue::{self, Event, Source};
use procref_supervisor::process::to_pid;
use rustix::io::Errno;
use rustix::process::Signal;

use super::output::Output;
use super::{CommandProbe, ReadinessWait, WakeReason};
use crate::descriptor;
use crate::process::{self, Identity, Process};

/// A running program.
pub(super) struct Run {
    child: Child,
    /// The leader of the program's process group. `None` if it exited before it was identified.
    identity: Option<Identity>,
    /// The queue that reports how the program ended.
    status: OwnedFd,
    /// The exit status, if the program exited before the queue could watch it.
    ended: Option<ExitStatus>,
    output: Output,
}

impl Run {
    pub(super) fn start(trial: &CommandProbe) -> io::Result<Self> {
        let (output, printer) = descriptor::pipe()?;
        let output = Output::new(output)?;
        let mut command = Command::new(&trial.program);
        command
            .arg0(&trial.name)
            .args(&trial.args)
            .env_clear()
            .envs(trial.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&trial.dir)
            .stdin(Stdio::null())
            .stdout(printer.try_clone()?)
            .stderr(printer)
            .process_group(0);
        let status = kqueue::new()?;
        let mut child = command.spawn()?;
        let ended = match kqueue::add(&status, Source::ExitStatus(child.id()), 0) {
            Ok(()) => None,
            // The program has exited or is exiting, so this does not wait for long.
            Err(_) => Some(child.wait()?),
        };
        let found = Process::find(child.id()).ok().flatten();
        Ok(Self {
            identity: found.map(|process| process.identity()),
            child,
            status,
            ended,
            output,
        })
    }

    /// Waits for the exit status, the alarm or the end of the time.
    pub(super) fn wait(
        &mut self,
        watch: &ReadinessWait<'_>,
    ) -> io::Result<Result<ExitStatus, WakeReason>> {
        loop {
            if let Some(status) = self.status()? {
                // The program may have printed its reason between the last read and its exit.
                self.output.read();
                return Ok(Ok(status));
            }
            match watch.wait_readable([&self.status].into_iter().chain(self.output.pipe())) {
                WakeReason::Event => {}
                woken => return Ok(Err(woken)),
            }
            // The program must not wait for room in the pipe.
            self.output.read();
        }
    }

    /// Returns the exit status if the program has exited.
    fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        let mut events = [Event::BLANK];
        let reported = match kqueue::wait(&self.status, &mut events, Some(Duration::ZERO)) {
            Ok(events) => events.first().map(|event| event.data() as i32),
            Err(Errno::INTR) => None,
            Err(error) => return Err(error.into()),
        };
        match (reported, self.child.try_wait()) {
            // The report comes before the child can be reaped.
            (Some(status), _) => Ok(Some(ExitStatus::from_raw(status))),
            (None, Ok(status)) => Ok(status),
            // The host program has reaped the child, and the queue reports it.
            (None, Err(error)) if Errno::from_io_error(&error) == Some(Errno::CHILD) => Ok(None),
            (None, Err(error)) => Err(error),
        }
    }

    /// Returns the end of the output that was read.
    pub(super) fn output(&self) -> &[u8] {
        self.output.tail()
    }

    /// Kills the program with its process group.
    pub(super) fn end(self) {
        let alive = self.identity.filter(|&it| process::is_identity_alive(it));
        if let Some(group) = alive.and_then(|it| to_pid(it.pid)) {
            if let Err(error) = rustix::process::kill_process_group(group, Signal::KILL) {
                tracing::debug!(%error, "could not kill a readiness command");
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // In every other case than an error, the program has exited or was killed.
        if let Some(Ok(Some(leader))) = self.identity.map(process::find) {
            let _ = leader.kill();
        }
        let _ = self.child.wait();
    }
}

/// Returns `true` if the kernel does not know the file's format.
pub(super) fn is_no_program(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOEXEC)
}
