//! A run in a process group of its own, which is killed with all it has started, where it must be.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{Watch, Woken, look_again};

pub(super) fn prepare(command: &mut Command, name: &OsStr) {
    command.arg0(name).process_group(0);
}

/// Its exit status, or what came before it had one: then it is not reaped.
pub(super) fn wait(child: &mut Child, watch: &Watch<'_>) -> io::Result<Result<ExitStatus, Woken>> {
    match rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        Ok(pidfd) => match watch.wait_for(&pidfd, PollFlags::IN) {
            Woken::Event => child.wait().map(Ok),
            woken => Ok(Err(woken)),
        },
        // No pidfds here.
        Err(_) => look_again(watch, || child.try_wait()),
    }
}

pub(super) fn end(child: &mut Child) {
    // Not reaped yet, so nobody else can have its number by now.
    let killed = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
    if let Err(error) = killed {
        tracing::debug!(%error, "could not kill a readiness command");
    }
    if let Err(error) = child.wait() {
        tracing::debug!(%error, "could not wait for a readiness command");
    }
}

/// Returns `true` if the kernel does not know the file's format.
pub(super) fn is_no_program(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOEXEC)
}
