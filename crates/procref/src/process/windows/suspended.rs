//! Letting a process run that was created suspended.

#![expect(
    unsafe_code,
    reason = "the standard library keeps the first thread's handle to itself"
)]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_NO_MORE_FILES, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::Threading::{OpenThread, ResumeThread, THREAD_SUSPEND_RESUME};

/// Resumes the first thread of a process that was created suspended, and whose handle the caller keeps.
pub(crate) fn resume(pid: u32) -> io::Result<()> {
    let mut resumed = false;
    for thread in threads(pid)? {
        // SAFETY: two numbers and a flag; the handle that comes back is nobody else's.
        let handle = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, thread) };
        if handle.is_null() {
            continue;
        }
        // SAFETY: it was just opened, and is closed by nobody else.
        let thread = unsafe { OwnedHandle::from_raw_handle(handle) };
        // SAFETY: the handle is open, and may resume the thread.
        if unsafe { ResumeThread(thread.as_raw_handle()) } == u32::MAX {
            return Err(io::Error::last_os_error());
        }
        resumed = true;
    }
    match resumed {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "it has no thread")),
    }
}

/// The threads of a process. One that was created suspended has one, unless somebody else, a scanner
/// of viruses, has made another in it; that one is not suspended, and resuming it does nothing.
fn threads(pid: u32) -> io::Result<Vec<u32>> {
    // SAFETY: two numbers; the handle that comes back is nobody else's.
    let handle = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and is closed by nobody else.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(handle) };
    let mut entry = THREADENTRY32 {
        dwSize: size_of::<THREADENTRY32>() as u32,
        ..Default::default()
    };
    let mut found = Vec::new();
    // SAFETY: the snapshot is open, and `entry` says how large it is.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == pid {
            found.push(entry.th32ThreadID);
        }
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(ERROR_NO_MORE_FILES as i32) => Ok(found),
        error => Err(error),
    }
}
