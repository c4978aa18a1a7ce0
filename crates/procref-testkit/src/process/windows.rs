//! Process handles, named objects, named pipes, windows and console events.

#![expect(
    unsafe_code,
    reason = "handles, pipes, windows and consoles need raw system calls"
)]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use windows_sys::Wdk::Foundation::{NtQueryObject, ObjectBasicInformation};
use windows_sys::Win32::Foundation::{
    ERROR_FILE_NOT_FOUND, FILETIME, HWND, INVALID_HANDLE_VALUE, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::PIPE_ACCESS_DUPLEX;
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Memory::{FILE_MAP_READ, OpenFileMappingW};
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, CreateNamedPipeW, PIPE_TYPE_BYTE};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, INFINITE, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, TerminateProcess, WaitForSingleObject,
};
use windows_sys::Win32::System::WindowsProgramming::PUBLIC_OBJECT_BASIC_INFORMATION;
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DispatchMessageW, GetMessageW, MSG, RegisterClassW, WM_CLOSE,
    WNDCLASSW, WS_OVERLAPPEDWINDOW,
};

fn check(done: i32) -> io::Result<()> {
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// An open process. Its pid is not reused while this handle is open, even after the process has exited.
pub(crate) struct Process(OwnedHandle);

impl Process {
    /// Opens the process that has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE | PROCESS_TERMINATE;
        // SAFETY: no pointers are passed.
        let handle = unsafe { OpenProcess(access, 0, pid) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle was just opened, and no other code closes it.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Returns the time of the process's creation, in units of 100 ns since 1601.
    pub(crate) fn start(&self) -> io::Result<u64> {
        let mut times = [FILETIME::default(); 4];
        let [creation, exit, kernel, user] = &mut times;
        // SAFETY: the handle is open, and the four pointers refer to local variables.
        check(unsafe { GetProcessTimes(self.0.as_raw_handle(), creation, exit, kernel, user) })?;
        Ok(u64::from(creation.dwHighDateTime) << 32 | u64::from(creation.dwLowDateTime))
    }

    /// Waits for the exit of the process. Returns `false` if the process is still alive after `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = u32::try_from(limit.as_millis()).unwrap_or(INFINITE);
        // SAFETY: the handle is open and has the right `PROCESS_SYNCHRONIZE`.
        match unsafe { WaitForSingleObject(self.0.as_raw_handle(), limit) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_TIMEOUT => Ok(false),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        // SAFETY: the handle is open and has the right `PROCESS_TERMINATE`.
        check(unsafe { TerminateProcess(self.0.as_raw_handle(), 137) })
    }
}

/// Exits without destructors, exit handlers and the notification of libraries (`TerminateProcess`).
pub fn exit_at_once(code: i32) -> ! {
    loop {
        // SAFETY: no arguments are passed, and the returned pseudo-handle need not be closed.
        let myself = unsafe { GetCurrentProcess() };
        // SAFETY: the pseudo-handle is always valid, and no pointers are passed.
        unsafe { TerminateProcess(myself, code as u32) };
    }
}

/// Kills this process, as another process's `TerminateProcess` does.
pub fn kill_self() -> ! {
    exit_at_once(137)
}

/// Returns the nanoseconds of the clock that all processes share.
pub(crate) fn clock() -> io::Result<u64> {
    let (mut ticks, mut per_second) = (0, 0);
    // SAFETY: the pointer refers to a local variable.
    check(unsafe { QueryPerformanceCounter(&raw mut ticks) })?;
    // SAFETY: the pointer refers to a local variable.
    check(unsafe { QueryPerformanceFrequency(&raw mut per_second) })?;
    let nanoseconds = i128::from(ticks) * 1_000_000_000 / i128::from(per_second);
    u64::try_from(nanoseconds).map_err(io::Error::other)
}

/// Returns the number of handles on the section of this name, without the handle of this function. Returns 0 if there
/// is no such section.
pub(crate) fn handles_of_section(name: &str) -> io::Result<u32> {
    let name = wide(name);
    // SAFETY: the name ends with a NUL.
    let handle = unsafe { OpenFileMappingW(FILE_MAP_READ, 0, name.as_ptr()) };
    if handle.is_null() {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(code) if code == ERROR_FILE_NOT_FOUND as i32 => Ok(0),
            _ => Err(error),
        };
    }
    // SAFETY: the handle was just opened, and no other code closes it.
    let section = unsafe { OwnedHandle::from_raw_handle(handle) };
    let mut info = PUBLIC_OBJECT_BASIC_INFORMATION::default();
    // SAFETY: the handle is open, and the buffer is a local variable of the given size.
    let status = unsafe {
        NtQueryObject(
            section.as_raw_handle(),
            ObjectBasicInformation,
            (&raw mut info).cast(),
            size_of_val(&info) as u32,
            ptr::null_mut(),
        )
    };
    if status < 0 {
        let reason = format!("NtQueryObject returned {status:#x}");
        return Err(io::Error::other(reason));
    }
    Ok(info.HandleCount - 1)
}

/// Creates a named pipe and accepts one client. The pipe exists until the process exits.
///
/// # Errors
///
/// Returns the error of the system call.
pub fn serve_pipe(name: &str) -> io::Result<()> {
    let name = wide(name);
    // SAFETY: the name ends with a NUL, and the attributes may be null.
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
    // SAFETY: the handle was just created, and no other code closes it.
    let pipe = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open, and a null pointer makes the call synchronous.
    unsafe { ConnectNamedPipe(pipe.as_raw_handle(), ptr::null_mut()) };
    std::mem::forget(pipe);
    Ok(())
}

/// A hidden top-level window. It belongs to the thread that created it, and exists until that thread exits.
#[derive(Debug)]
pub struct Window(HWND);

impl Window {
    /// Creates a window with a new class of this name.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn create(class: &str) -> io::Result<Self> {
        let class = wide(class);
        let details = WNDCLASSW {
            lpfnWndProc: Some(DefWindowProcW),
            lpszClassName: class.as_ptr(),
            ..WNDCLASSW::default()
        };
        // SAFETY: the name ends with a NUL, and the window procedure is a static function.
        if unsafe { RegisterClassW(&raw const details) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the class was registered above, its name ends with a NUL, and all other pointers may be null.
        let window = unsafe {
            CreateWindowExW(
                0,
                class.as_ptr(),
                ptr::null(),
                WS_OVERLAPPEDWINDOW,
                0,
                0,
                100,
                100,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            )
        };
        if window.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(window))
    }

    /// Waits for a request to close the window. The window stays open.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn wait_closed(&self) -> io::Result<()> {
        let mut message = MSG::default();
        loop {
            // SAFETY: the pointer refers to a local variable.
            let got = unsafe { GetMessageW(&raw mut message, self.0, 0, 0) };
            if got <= 0 {
                return Err(io::Error::last_os_error());
            }
            if message.message == WM_CLOSE {
                return Ok(());
            }
            // SAFETY: the pointer refers to the message that `GetMessageW` has just written.
            unsafe { DispatchMessageW(&raw const message) };
        }
    }
}

/// A key that interrupts the programs on a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key C.
    C,
    /// The key Break.
    Break,
}

/// Sends Ctrl with this key to all processes on this process's console.
///
/// # Errors
///
/// Returns an error if this process has no console.
pub fn press_ctrl(key: Key) -> io::Result<()> {
    let event = match key {
        Key::C => CTRL_C_EVENT,
        Key::Break => CTRL_BREAK_EVENT,
    };
    // SAFETY: no pointers are passed.
    check(unsafe { GenerateConsoleCtrlEvent(event, 0) })
}

/// Returns a receiver of the interrupting keys of this process's console. The keys have no other effect on
/// this process.
///
/// # Errors
///
/// Returns the error of the system call.
pub fn console_keys() -> io::Result<Receiver<Key>> {
    static KEYS: Mutex<Option<Sender<Key>>> = Mutex::new(None);

    unsafe extern "system" fn handle(event: u32) -> i32 {
        let key = match event {
            CTRL_C_EVENT => Key::C,
            CTRL_BREAK_EVENT => Key::Break,
            _ => return 0,
        };
        let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys.as_ref() {
            // An error means that the receiver was dropped. Even then, the key must not end this process.
            let _ = keys.send(key);
        }
        1
    }

    let (sender, receiver) = mpsc::channel();
    *KEYS.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    // SAFETY: the handler is a static function, and may run at any time in any thread.
    check(unsafe { SetConsoleCtrlHandler(Some(handle), 1) })?;
    Ok(receiver)
}
