//! Processes by pid and creation time.
//!
//! Windows reuses a pid only after the last handle on its process is closed. So a program that holds a handle and has
//! compared the creation time through that handle knows which process the pid names.

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, FILETIME, HANDLE};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{
    GetProcessId, GetProcessTimes, OpenProcess, PROCESS_NAME_WIN32,
    PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, QueryFullProcessImageNameW,
    TerminateProcess,
};

use crate::call::check;
use crate::handle::wait_timeout;

/// The exit code of a process that [`terminate`] has ended. Unix shells report 137 for a killed process.
pub const KILLED: u32 = 137;

/// The pseudo handle by which a process names itself. It is always open.
pub const MYSELF: HANDLE = ptr::without_provenance_mut(usize::MAX);

/// The access rights of every handle that [`open`] returns.
const QUERY_AND_WAIT: u32 = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;

/// Opens the process that has this pid now. The handle has the rights in `access`, and those to query the
/// process and to wait for it.
///
/// Returns `None` if no process has the pid, or if the process has exited.
///
/// # Errors
///
/// Returns the error of the system call, for example if the process belongs to another user.
pub fn open(pid: u32, access: u32) -> io::Result<Option<OwnedHandle>> {
    // SAFETY: no pointers are passed.
    let handle = unsafe { OpenProcess(access | QUERY_AND_WAIT, 0, pid) };
    if handle.is_null() {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(code) if code == ERROR_INVALID_PARAMETER as i32 => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the call has just opened this handle, and no other code knows it.
    let process = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open and has PROCESS_QUERY_LIMITED_INFORMATION.
    let found = unsafe { GetProcessId(process.as_raw_handle()) };
    // Windows ignores the lowest two bits of a pid: 7 would open process 4.
    if found != pid || has_exited(&process) {
        return Ok(None);
    }
    Ok(Some(process))
}

/// Like [`open`], for the process that has this pid and this creation time.
///
/// Returns `None` if that process has exited, even if another process has the pid now.
///
/// # Errors
///
/// See [`open`].
pub fn open_created(pid: u32, creation_time: u64, access: u32) -> io::Result<Option<OwnedHandle>> {
    let Some(process) = open(pid, access)? else {
        return Ok(None);
    };
    Ok((self::creation_time(&process)? == creation_time).then_some(process))
}

/// Returns the time when a process was created, in units of 100 ns since 1601.
///
/// # Errors
///
/// Returns an error if the handle does not permit queries.
pub fn creation_time(process: &OwnedHandle) -> io::Result<u64> {
    let mut times = [FILETIME::default(); 4];
    let [creation, exit, kernel, user] = &mut times;
    // SAFETY: `process` keeps the handle open, and the call writes to four local variables.
    check(unsafe { GetProcessTimes(process.as_raw_handle(), creation, exit, kernel, user) })?;
    let FILETIME {
        dwLowDateTime: low,
        dwHighDateTime: high,
    } = *creation;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// Ends a process with the exit code [`KILLED`]. Succeeds if the process has already exited.
///
/// # Errors
///
/// Returns an error if the handle does not permit it.
pub fn terminate(process: &OwnedHandle) -> io::Result<()> {
    // SAFETY: `process` keeps the handle open. The kernel checks its access rights.
    if unsafe { TerminateProcess(process.as_raw_handle(), KILLED) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // Windows also refuses if the process is exiting already.
    if wait_timeout(process, Duration::from_secs(1))? {
        return Ok(());
    }
    Err(error)
}

/// Ends this process at once, without running any more of its code.
pub fn terminate_self() -> ! {
    loop {
        // SAFETY: a process may end itself, and no code of it runs afterwards.
        unsafe { TerminateProcess(MYSELF, KILLED) };
    }
}

/// Suspends all threads of this process until another process resumes it.
pub fn suspend_self() {
    #[link(name = "ntdll")]
    unsafe extern "system" {
        /// Debuggers use this call. No documented call suspends all threads at once.
        fn NtSuspendProcess(process: HANDLE) -> i32;
    }
    // SAFETY: the pseudo handle is always open, and the call touches no memory of this process.
    unsafe { NtSuspendProcess(MYSELF) };
}

/// Returns `true` if a process has exited.
#[must_use]
pub fn has_exited(process: &OwnedHandle) -> bool {
    // The exit code is not sufficient, because a process may exit with 259, which is STILL_ACTIVE.
    wait_timeout(process, Duration::ZERO).unwrap_or(false)
}

/// Returns the path of a process's program, in UTF-16 without a NUL.
///
/// # Errors
///
/// Returns an error if the handle does not permit queries, or if the process has exited.
pub fn image(process: &OwnedHandle) -> io::Result<Vec<u16>> {
    let mut room = vec![0; 4096];
    let mut length = room.len() as u32;
    // SAFETY: `process` keeps the handle open, and `room` has room for `length` units.
    check(unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            room.as_mut_ptr(),
            &raw mut length,
        )
    })?;
    room.truncate(length as usize);
    Ok(room)
}

/// Returns the session of this process, or 0 if Windows does not return it. A process finds the named objects of its
/// own session.
#[must_use]
pub fn session() -> u32 {
    let mut session = 0;
    // SAFETY: the call writes to a local variable. If it fails, the variable stays 0.
    unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
    session
}
