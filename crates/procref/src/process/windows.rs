//! Processes on Windows, by handle and creation time.
//!
//! Windows reuses a pid only after the last handle on its process is closed. So a [`Handle`] that is open, and whose creation
//! time was compared, names one process.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::OnceLock;
use std::time::Duration;

use procref_winsys::handle::wait_timeout;
use procref_winsys::process::{self, creation_time, has_exited, open};
#[cfg(feature = "crash-points")]
pub(crate) use procref_winsys::process::{
    suspend_self as suspend_myself, terminate_self as kill_myself,
};
use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;
use windows_sys::Win32::System::Threading::PROCESS_TERMINATE;

use super::{Identity, View};
use crate::error::Result;

pub(crate) mod proc_info;
mod stop_event;
mod stop_request;

pub use stop_event::StopEvent;
pub(crate) use stop_request::close_windows;
use stop_request::{Group, request_stop};

/// An action on a process, by the name of the Unix signal for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Sends a stop request.
    Terminate,
    /// Sends a stop request, which may be Ctrl-Break. Only for a process that procref has created as the
    /// leader of a process group.
    Break,
    Kill,
    Continue,
}

pub(crate) const TERMINATE: Signal = Signal::Terminate;
pub(crate) const KILL: Signal = Signal::Kill;
pub(crate) const CONTINUE: Signal = Signal::Continue;

/// The number of the signal that a terminal sends for Ctrl-C.
pub(crate) const BREAK: i32 = 2;

impl Signal {
    /// Converts the numbers of [`StopSignal`](crate::StopSignal).
    pub(crate) fn from_named_raw(number: i32) -> Option<Self> {
        match number {
            BREAK => Some(Self::Break),
            9 => Some(Self::Kill),
            _ => None,
        }
    }
}

/// The handle on a process, opened when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Handle(OnceLock<Opened>);

#[derive(Debug)]
enum Opened {
    Process(OwnedHandle),
    /// The process has exited. Another process may have its pid.
    Gone,
    /// The process that has the pid belongs to another user. procref cannot check whether it is the same process.
    Refused,
}

impl Handle {
    fn open(&self, identity: Identity) -> &Opened {
        self.0.get_or_init(|| match open(identity.pid, 0) {
            Ok(Some(process)) => match creation_time(&process) {
                Ok(start) if start == identity.start => Opened::Process(process),
                Ok(_) => Opened::Gone,
                Err(_) => Opened::Refused,
            },
            Ok(None) => Opened::Gone,
            Err(_) => Opened::Refused,
        })
    }
}

/// Returns the creation time of the process that has `pid` now, or `None` if there is none.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    match open(pid, 0)? {
        Some(process) => creation_time(&process).map(Some),
        None => Ok(None),
    }
}

pub(super) fn is_alive(identity: Identity, handle: &Handle) -> bool {
    match handle.open(identity) {
        Opened::Process(process) => !has_exited(process),
        Opened::Gone => false,
        // A process has the pid. Treating an exited process as alive is the smaller mistake.
        Opened::Refused => is_pid_alive(identity.pid),
    }
}

pub(super) fn is_pid_alive(pid: u32) -> bool {
    match open(pid, 0) {
        Ok(process) => process.is_some(),
        Err(error) => error.raw_os_error() == Some(ERROR_ACCESS_DENIED as i32),
    }
}

/// Performs the action. Returns `false` if the process cannot receive a stop request.
pub(super) fn signal(identity: Identity, handle: &Handle, signal: Signal) -> io::Result<bool> {
    match handle.open(identity) {
        Opened::Process(process) if has_exited(process) => return Ok(true),
        // While this handle is open, no other process can get the pid.
        Opened::Process(_) => {}
        Opened::Gone => return Ok(true),
        Opened::Refused => return Err(io::ErrorKind::PermissionDenied.into()),
    }
    match signal {
        Signal::Terminate => request_stop(identity.pid, Group::Unknown),
        Signal::Break => request_stop(identity.pid, Group::Leader),
        Signal::Continue => Ok(true),
        Signal::Kill => {
            if let Some(process) = open(identity.pid, PROCESS_TERMINATE)? {
                process::terminate(&process)?;
            }
            Ok(true)
        }
    }
}

/// Waits until the process has exited, at most `timeout`. Returns `true` if it has.
pub(super) fn wait(identity: Identity, handle: &Handle, timeout: Duration) -> io::Result<bool> {
    match handle.open(identity) {
        Opened::Process(process) => wait_timeout(process, timeout),
        Opened::Gone => Ok(true),
        Opened::Refused => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Returns the view of this process: its session, because a process finds the named objects of its own session.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn view() -> Result<View> {
    Ok(View([process::session().into(), 0, 0, 0, 0, 0]))
}

/// Returns a constant, because Windows cannot fork a process.
pub(crate) fn fork_epoch() -> u64 {
    1
}

/// Returns `false`. The threads of a process may be suspended, but Windows has no call that reports it.
pub(crate) fn is_suspended(_: u32) -> bool {
    false
}

/// Returns `false`, because Windows needs no supervisors.
pub(crate) fn is_supervisor(_: u32) -> bool {
    false
}
