//! One process for sure: its handle, and what is done through it.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::OnceLock;
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;
use windows_sys::Win32::System::Threading::PROCESS_TERMINATE;

use super::asking::{Group, ask};
use super::{LOOK, created, has_ended, open, terminate, wait_for};
use crate::process::Identity;

/// What can be done to a process, under the names that Unix has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Terminate,
    /// As `Terminate`, and by Ctrl-Break, too. For a process that procref has made the first of a process
    /// group, and for no other.
    Break,
    Kill,
    Continue,
}

pub(crate) const TERMINATE: Signal = Signal::Terminate;
pub(crate) const KILL: Signal = Signal::Kill;
pub(crate) const CONTINUE: Signal = Signal::Continue;

/// What a terminal sends for Ctrl-C, by its number.
pub(crate) const BREAK: i32 = 2;

impl Signal {
    /// By the numbers that [`StopSignal`](crate::StopSignal) has.
    pub(crate) fn from_named_raw(number: i32) -> Option<Self> {
        match number {
            BREAK => Some(Self::Break),
            9 => Some(Self::Kill),
            _ => None,
        }
    }
}

/// A process's handle, opened when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Handle(OnceLock<Opened>);

#[derive(Debug)]
enum Opened {
    Process(OwnedHandle),
    /// The process is gone: somebody else, or nobody, has its pid.
    Gone,
    /// It is another user's. Whether it is the one that was meant cannot be told.
    Refused,
}

impl Handle {
    fn open(&self, identity: Identity) -> &Opened {
        self.0.get_or_init(|| match open(identity.pid, LOOK) {
            Ok(Some(process)) => match created(&process) {
                Ok(start) if start == identity.start => Opened::Process(process),
                Ok(_) => Opened::Gone,
                Err(_) => Opened::Refused,
            },
            Ok(None) => Opened::Gone,
            Err(_) => Opened::Refused,
        })
    }
}

/// The very process, with a handle that may do more than look; `None` if it has ended.
pub(crate) fn open_identity(identity: Identity, access: u32) -> io::Result<Option<OwnedHandle>> {
    let Some(process) = open(identity.pid, access)? else {
        return Ok(None);
    };
    Ok((created(&process)? == identity.start).then_some(process))
}

/// The creation time of the process that has `pid` now. `None`: nobody has it.
pub(crate) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    match open(pid, LOOK)? {
        Some(process) => created(&process).map(Some),
        None => Ok(None),
    }
}

pub(crate) fn is_alive(identity: Identity, handle: &Handle) -> bool {
    match handle.open(identity) {
        Opened::Process(process) => !has_ended(process),
        Opened::Gone => false,
        // Somebody has the pid. To take a dead process for a live one is the smaller mistake.
        Opened::Refused => is_pid_alive(identity.pid),
    }
}

pub(crate) fn is_pid_alive(pid: u32) -> bool {
    match open(pid, LOOK) {
        Ok(found) => found.is_some(),
        Err(error) => error.raw_os_error() == Some(ERROR_ACCESS_DENIED as i32),
    }
}

/// Whether it can have heard. There is no way to ask a process that listens to nothing.
pub(crate) fn signal(identity: Identity, handle: &Handle, signal: Signal) -> io::Result<bool> {
    match handle.open(identity) {
        Opened::Process(process) if has_ended(process) => return Ok(true),
        // While that handle is open nobody else can get the pid.
        Opened::Process(_) => {}
        Opened::Gone => return Ok(true),
        Opened::Refused => return Err(io::ErrorKind::PermissionDenied.into()),
    }
    match signal {
        Signal::Terminate => ask(identity.pid, Group::Unknown),
        Signal::Break => ask(identity.pid, Group::Own),
        Signal::Continue => Ok(true),
        Signal::Kill => {
            if let Some(process) = open(identity.pid, PROCESS_TERMINATE)? {
                terminate(&process)?;
            }
            Ok(true)
        }
    }
}

/// Whether the process is gone, at the latest after `timeout`.
pub(crate) fn wait(identity: Identity, handle: &Handle, timeout: Duration) -> io::Result<bool> {
    match handle.open(identity) {
        Opened::Process(process) => wait_for(process, timeout),
        Opened::Gone => Ok(true),
        Opened::Refused => Err(io::ErrorKind::PermissionDenied.into()),
    }
}
