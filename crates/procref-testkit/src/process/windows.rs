//! Named pipes, and keys that nobody presses, which the standard library does not offer.

#![expect(
    unsafe_code,
    reason = "pipes and consoles are had by bare system calls"
)]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::Storage::FileSystem::PIPE_ACCESS_DUPLEX;
use windows_sys::Win32::System::Console::{
    AllocConsole, CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent,
};
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, CreateNamedPipeW, PIPE_TYPE_BYTE};

/// Makes a named pipe, and takes whoever connects. It stays until the process ends.
///
/// # Errors
///
/// What Windows says.
pub fn serve_pipe(name: &str) -> io::Result<()> {
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // SAFETY: the name ends with a NUL, and there are no attributes.
    let handle = unsafe {
        CreateNamedPipeW(
            name.as_ptr(),
            PIPE_ACCESS_DUPLEX,
            PIPE_TYPE_BYTE,
            1,
            512,
            512,
            0,
            ptr::null(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and is closed by nobody else.
    let pipe = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open, and nothing is to be done beside.
    unsafe { ConnectNamedPipe(pipe.as_raw_handle(), ptr::null_mut()) };
    std::mem::forget(pipe);
    Ok(())
}

/// Sees to it that this process has a console, which its children share.
///
/// # Errors
///
/// What Windows says.
pub fn have_console() -> io::Result<()> {
    // SAFETY: it takes nothing.
    if unsafe { AllocConsole() } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // It has one already.
    match error.kind() {
        io::ErrorKind::PermissionDenied => Ok(()),
        _ => Err(error),
    }
}

/// Ctrl-Break for all processes of a group.
///
/// # Errors
///
/// What Windows says: that there is no such group on this console.
pub fn press_break(group: u32) -> io::Result<()> {
    // SAFETY: two numbers.
    match unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
