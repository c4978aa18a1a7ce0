//! `run --watch-client`: the client's parent, until everything that it has started has ended.
//!
//! The client is a child that acquires the service itself before it becomes the client. So it has a
//! reference of its own, and whatever becomes of this process, SIGKILL included, the service does not vanish
//! under it. Passing on this process's reference is not possible: the kernel counts by process. Having the
//! client killed along with this process (`PR_SET_PDEATHSIG`) would take an answer from people that is
//! theirs.

use std::env;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Command, ExitCode, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::acquire::Held;
use crate::error::{Error, Result};

/// Set in the child that becomes the client.
pub(crate) const WATCHED: &str = "PROCREF_WATCHED";

const FORWARDED: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

/// Whether there is such a thing here.
pub(crate) fn check() -> Result<()> {
    Ok(())
}

/// Whether this process is the one that becomes the client.
pub(crate) fn is_watched() -> bool {
    env::var_os(WATCHED).is_some()
}

pub(crate) fn run(held: Held) -> Result<ExitCode> {
    // What the client leaves without a parent becomes a child of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Error::io("become the parent of what the client leaves", error.into()))?;
    // Before there is a child whose end could be missed.
    let mut signals = SignalsInfo::<WithOrigin>::new(FORWARDED.into_iter().chain([SIGCHLD]))
        .map_err(|error| Error::io("listen to signals", error))?;
    let mut words = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(own) = words.next() {
        command.arg0(own);
    }
    let child = command.args(words).env(WATCHED, "1").spawn();
    let child = child.map_err(|error| Error::io("start the client's process", error))?;
    let mut family = Family::new(child.id());
    for signal in &mut signals {
        // Whatever it is: a signal to a client that has ended, unnoticed so far, would be lost to those
        // it has left.
        if family.bury() {
            break;
        }
        if signal.signal != SIGCHLD && is_for_client(&signal) {
            family.signal(signal.signal);
        }
    }
    held.release()?;
    Ok(family.code())
}

/// Whether somebody has sent it to this process alone, as far as can be told. What the terminal sends, it
/// sends to the client as well, which must not get it twice.
fn is_for_client(signal: &Origin) -> bool {
    !matches!(signal.cause, Cause::Kernel)
}

/// The client and what it has left.
struct Family {
    client: Pid,
    ended: Option<ExitStatus>,
}

impl Family {
    fn new(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self {
            client: pid.expect("a child has a pid"),
            ended: None,
        }
    }

    /// Takes note of all who have ended; true if nobody is left.
    fn bury(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid == self.client {
                        self.ended = Some(ExitStatus::from_raw(status.as_raw()));
                    }
                }
                Ok(None) => return false,
                Err(rustix::io::Errno::INTR) => {}
                // There is no child any more.
                Err(_) => return true,
            }
        }
    }

    /// To the client; when that has ended, to those of its descendants that have become this process's
    /// children. None of them can have got another one's pid: only this process buries them.
    fn signal(&self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else {
            return;
        };
        let living = match self.ended {
            None => vec![self.client],
            Some(_) => children(),
        };
        for pid in living {
            // It may have ended right now.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn code(&self) -> ExitCode {
        let Some(status) = self.ended else {
            return ExitCode::FAILURE;
        };
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        ExitCode::from(
            code.and_then(|code| u8::try_from(code).ok())
                .unwrap_or(u8::MAX),
        )
    }
}

/// The children of this process, whichever of its threads they are of.
fn children() -> Vec<Pid> {
    let mut children = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", process::id()));
    for task in tasks.into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children"));
        let pids = list.unwrap_or_default();
        let pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.extend(pids.filter_map(Pid::from_raw));
    }
    children
}
