//! Windows: process handles, and creation times.
//!
//! A pid is given to somebody else only when the last handle to its process is closed. So who keeps a handle
//! open, and has compared the creation time through it, has one process for sure.

#![expect(unsafe_code, reason = "processes are told apart by bare system calls")]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, FILETIME, HANDLE, WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{
    EVENT_MODIFY_STATE, GetProcessId, GetProcessTimes, OpenEventW, OpenProcess,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, SetEvent,
    TerminateProcess, WaitForSingleObject,
};

use super::Identity;

pub(crate) mod create;
pub(crate) mod directories;
pub(crate) mod facts;
pub(crate) mod security;
mod stop_event;

pub use stop_event::StopEvent;

/// What can be done to a process, under the names that Unix has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Terminate,
    Kill,
    Continue,
}

pub(super) const TERMINATE: Signal = Signal::Terminate;
pub(super) const KILL: Signal = Signal::Kill;
pub(super) const CONTINUE: Signal = Signal::Continue;

/// The exit code of a process that was ended: what Unix shells show of one that was killed.
pub(crate) const KILLED: u32 = 137;

impl Signal {
    /// By the numbers that [`StopSignal`](crate::StopSignal) has.
    pub(crate) fn from_named_raw(number: i32) -> Option<Self> {
        (number == 9).then_some(Self::Kill)
    }
}

/// A process's handle, opened when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Handle(OnceLock<Opened>);

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

/// To be asked and waited for.
const LOOK: u32 = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;

/// The process that has this pid now, if it has not ended.
pub(crate) fn open(pid: u32, access: u32) -> io::Result<Option<OwnedHandle>> {
    // SAFETY: three numbers; the handle that comes back is nobody else's.
    let handle = unsafe { OpenProcess(access | LOOK, 0, pid) };
    if handle.is_null() {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(code) if code == ERROR_INVALID_PARAMETER as i32 => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: it was just opened, and is closed by nobody else.
    let process = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open, and may be asked: PROCESS_QUERY_LIMITED_INFORMATION.
    let found = unsafe { GetProcessId(process.as_raw_handle()) };
    // Windows passes over the lowest two bits of a pid: 7 would be process 4.
    if found != pid || has_ended(&process) {
        return Ok(None);
    }
    Ok(Some(process))
}

/// The very process, with a handle that may do more than look; `None` if it has ended.
pub(crate) fn open_identity(identity: Identity, access: u32) -> io::Result<Option<OwnedHandle>> {
    let Some(process) = open(identity.pid, access)? else {
        return Ok(None);
    };
    Ok((created(&process)? == identity.start).then_some(process))
}

/// When a process was created, in units of 100 ns since 1601.
pub(crate) fn created(process: &OwnedHandle) -> io::Result<u64> {
    let mut times = [FILETIME::default(); 4];
    let [creation, exit, kernel, user] = &mut times;
    // SAFETY: the handle is open, and all four places are this function's own.
    let done = unsafe { GetProcessTimes(process.as_raw_handle(), creation, exit, kernel, user) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let FILETIME {
        dwLowDateTime: low,
        dwHighDateTime: high,
    } = *creation;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// The creation time of the process that has `pid` now. `None`: nobody has it.
pub(super) fn look_up(pid: u32) -> io::Result<Option<u64>> {
    match open(pid, LOOK)? {
        Some(process) => created(&process).map(Some),
        None => Ok(None),
    }
}

pub(super) fn is_alive(identity: Identity, handle: &Handle) -> bool {
    match handle.open(identity) {
        Opened::Process(process) => !has_ended(process),
        Opened::Gone => false,
        // Somebody has the pid. To take a dead process for a live one is the smaller mistake.
        Opened::Refused => is_pid_alive(identity.pid),
    }
}

pub(super) fn is_pid_alive(pid: u32) -> bool {
    match open(pid, LOOK) {
        Ok(found) => found.is_some(),
        Err(error) => error.raw_os_error() == Some(ERROR_ACCESS_DENIED as i32),
    }
}

/// Whether it can have heard. There is no way to ask a process that listens to nothing.
pub(super) fn signal(identity: Identity, handle: &Handle, signal: Signal) -> io::Result<bool> {
    match handle.open(identity) {
        Opened::Process(process) if has_ended(process) => return Ok(true),
        // While that handle is open nobody else can get the pid.
        Opened::Process(_) => {}
        Opened::Gone => return Ok(true),
        Opened::Refused => return Err(io::ErrorKind::PermissionDenied.into()),
    }
    match signal {
        Signal::Terminate => ask_to_stop(identity.pid),
        Signal::Continue => Ok(true),
        Signal::Kill => {
            if let Some(process) = open(identity.pid, PROCESS_TERMINATE)? {
                terminate(&process)?;
            }
            Ok(true)
        }
    }
}

/// Ends it. One that has ended by itself meanwhile is no error.
pub(crate) fn terminate(process: &OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open; whether it may do so the kernel says.
    if unsafe { TerminateProcess(process.as_raw_handle(), KILLED) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // To end a process that is ending already is refused.
    if wait_for(process, Duration::from_secs(1))? {
        return Ok(());
    }
    Err(error)
}

/// The event that a service may create, and wait for, to be asked to stop. See [`process`](super).
fn stop_event(pid: u32) -> String {
    format!(r"Local\procref-stop-{pid}")
}

fn ask_to_stop(pid: u32) -> io::Result<bool> {
    let name = wide(&stop_event(pid));
    // SAFETY: `name` ends with a NUL, and lives longer than the call.
    let handle = unsafe { OpenEventW(EVENT_MODIFY_STATE, 0, name.as_ptr()) };
    if handle.is_null() {
        // There is none, or it is not this user's.
        return Ok(false);
    }
    // SAFETY: it was just opened, and is closed by nobody else.
    let event = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open, and may be set: EVENT_MODIFY_STATE.
    match unsafe { SetEvent(event.as_raw_handle()) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(true),
    }
}

/// Whether the process is gone, at the latest after `timeout`.
pub(super) fn wait(identity: Identity, handle: &Handle, timeout: Duration) -> io::Result<bool> {
    match handle.open(identity) {
        Opened::Process(process) => wait_for(process, timeout),
        Opened::Gone => Ok(true),
        Opened::Refused => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

pub(crate) fn has_ended(process: &OwnedHandle) -> bool {
    // The exit code would not tell: a process may well end with 259, STILL_ACTIVE.
    wait_for(process, Duration::ZERO).unwrap_or(false)
}

/// Whether an object is signalled (a process: has ended), at the latest after `timeout`.
pub(crate) fn wait_for(object: &OwnedHandle, timeout: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        let left = timeout.saturating_sub(begun.elapsed());
        // u32::MAX would be for ever. A part of a millisecond is waited for, not spun through.
        let milliseconds = left.as_nanos().div_ceil(1_000_000).min(0x7fff_ffff) as u32;
        // SAFETY: the handle is open, and may be waited for.
        match unsafe { WaitForSingleObject(object.as_raw_handle(), milliseconds) } {
            WAIT_OBJECT_0 => return Ok(true),
            WAIT_FAILED => return Err(io::Error::last_os_error()),
            _ if left.is_zero() => return Ok(false),
            _ => {}
        }
    }
}

/// The session, whose named objects this process sees.
pub(crate) fn process_space() -> u64 {
    let mut session = 0;
    // SAFETY: the place is this function's own. Where the call fails it stays 0.
    unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
    session.into()
}

/// A process cannot be forked here.
pub(crate) fn fork_epoch() -> u64 {
    1
}

pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// What this process calls itself by: a handle that is always open.
pub(crate) const MYSELF: HANDLE = ptr::without_provenance_mut(usize::MAX);

/// Dies without running another line.
#[cfg(feature = "crash-points")]
pub(crate) fn kill_myself() -> ! {
    loop {
        // SAFETY: a process may end itself; nothing of it runs afterwards.
        unsafe { TerminateProcess(MYSELF, KILLED) };
    }
}

/// Until somebody continues it.
#[cfg(feature = "crash-points")]
pub(crate) fn suspend_myself() {
    #[link(name = "ntdll")]
    unsafe extern "system" {
        /// What debuggers use; nothing that is documented suspends all threads at once.
        fn NtSuspendProcess(process: HANDLE) -> i32;
    }
    // SAFETY: it takes this process's own handle, and touches no memory.
    unsafe { NtSuspendProcess(MYSELF) };
}
