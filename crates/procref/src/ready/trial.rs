//! A program that tells by its exit status.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::watch::{Found, Watch, Woken};
use crate::error::ended;

/// How long one run may take. More than a connection may, because starting an interpreter or a virtual
/// machine alone can take seconds on a busy machine, and it would never be done.
const RUN: Duration = Duration::from_secs(10);

/// How often a run is looked at where the kernel gives no pidfd to wait on.
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
            .arg0(&self.name)
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Killed with all it has started, where it must be.
            .process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Found::NotYet(format!("it could not be run: {error}")),
        };
        let watch = watch.at_most(RUN);
        let limit = watch.left();
        let done = match wait(&mut child, &watch) {
            Ok(Woken::Event) => child.wait(),
            Ok(woken) => {
                // Not reaped yet, so nobody else can have its number by now.
                let killed =
                    rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL);
                if let Err(error) = killed {
                    tracing::debug!(%error, "could not kill a readiness command");
                }
                if let Err(error) = child.wait() {
                    tracing::debug!(%error, "could not wait for a readiness command");
                }
                return match woken {
                    Woken::Alarm => Found::Alarm,
                    _ => Found::NotYet(format!("it did not end within {limit:.1?}")),
                };
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(status) if ExitStatus::success(&status) => Found::Ready,
            Ok(status) => Found::NotYet(format!("it {}", ended(status))),
            Err(error) => Found::NotYet(format!("its exit status is not to be had: {error}")),
        }
    }
}

/// Waits until the child has ended. It is not reaped, if that can be told without.
fn wait(child: &mut Child, watch: &Watch<'_>) -> io::Result<Woken> {
    match rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok(watch.wait_for(&pidfd, PollFlags::IN)),
        // No pidfds here.
        Err(_) => loop {
            if child.try_wait()?.is_some() {
                return Ok(Woken::Event);
            }
            if watch.is_over() {
                return Ok(Woken::Time);
            }
            if watch.at_most(LOOK_AGAIN).rest() == Woken::Alarm {
                return Ok(Woken::Alarm);
            }
        },
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
