//! Processes on macOS: facts by proc_pidinfo, exits by kqueue, and signals to a pid after a check.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use procref_supervisor::process::{
    ProcessInfo, SUPERVISOR_TITLE, exit_fd, is_alive as is_identity_alive, poll_exit, to_pid,
};
use rustix::io::Errno;

use super::{Identity, View};
use crate::error::Result;
use crate::kernel::counted::helper;

pub(crate) mod arguments;
mod fork_epoch;
pub(crate) mod list;
pub(crate) mod proc_info;

pub(crate) use fork_epoch::fork_epoch;

pub(crate) use rustix::process::Signal;

pub(super) const TERMINATE: Signal = Signal::TERM;
pub(super) const KILL: Signal = Signal::KILL;
pub(super) const CONTINUE: Signal = Signal::CONT;

/// A handle without data: each query asks the kernel by pid and compares the start time. So no descriptor of procref stays
/// open that a host program could close.
#[derive(Debug, Default)]
pub(super) struct Handle(());

/// Returns the view of this process. macOS has no namespaces.
#[expect(clippy::unnecessary_wraps, reason = "the contract of all systems")]
pub(crate) fn view() -> Result<View> {
    Ok(View::default())
}

/// Returns the start time of the process that has `pid` now. Returns `None` if there is none, if it is a zombie, or if it
/// has begun to exit.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    match ProcessInfo::of(pid) {
        Ok(info) => Ok(Some(info.start)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_alive(identity: Identity, _: &Handle) -> bool {
    // An error says nothing about the process, so the process counts as alive.
    is_identity_alive(identity).unwrap_or(true)
}

pub(super) fn is_pid_alive(pid: u32) -> bool {
    start_time(pid).is_ok_and(|start| start.is_some())
}

/// Sends a signal. Always returns `true`, because every process can receive one.
///
/// The process may exit, and its pid may be reused, between the check and the signal. The kernel assigns pids in
/// ascending order and then begins again, so a reuse takes a whole round.
pub(super) fn signal(identity: Identity, _: &Handle, signal: Signal) -> io::Result<bool> {
    let sent = match to_pid(identity.pid) {
        Some(pid) if is_identity_alive(identity)? => rustix::process::kill_process(pid, signal),
        _ => Ok(()),
    };
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the process has exited, at most `timeout`. Returns `true` if it has.
pub(super) fn wait(identity: Identity, _: &Handle, timeout: Duration) -> io::Result<bool> {
    let start = Instant::now();
    // The exit is watched before the start time is compared. If the start time is right, the descriptor reports the exit
    // of this process.
    let exit = match exit_fd(identity.pid) {
        Err(Errno::SRCH) => return Ok(true),
        exit => exit?,
    };
    if !is_identity_alive(identity)? {
        return Ok(true);
    }
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match poll_exit(&exit, left) {
            Ok(true) => return Ok(true),
            Ok(false) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Returns `true` if the process has executed a program since it was forked, or if it has exited.
pub(crate) fn has_executed(identity: Identity) -> bool {
    match ProcessInfo::of(identity.pid) {
        Ok(info) => info.start != identity.start || info.has_executed,
        Err(_) => true,
    }
}

/// Returns `true` if the process that has this pid now is suspended, by a signal or by a debugger.
pub(crate) fn is_suspended(pid: u32) -> bool {
    ProcessInfo::of(pid).is_ok_and(|info| info.is_suspended)
}

/// Returns the text that `ps` shows for a keeper: `procref: NAME`, on one line.
pub(crate) fn supervisor_title(name: &str) -> String {
    super::title(SUPERVISOR_TITLE, name)
}

/// Returns `true` if the process that has this pid now is a keeper, according to its arguments and its environment.
pub(crate) fn is_supervisor(pid: u32) -> bool {
    state_file(pid).is_some()
}

/// Returns the path of the state file of a keeper, or `None` if the process is no keeper.
///
/// A process can imitate the arguments and the environment of a keeper. The caller checks the file.
pub(crate) fn state_file(pid: u32) -> Option<PathBuf> {
    arguments::variable_of_titled(pid, helper::STATE).map(PathBuf::from)
}
