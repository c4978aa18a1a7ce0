//! Processes by handle, named objects, named pipes, windows, and keys that nobody presses, which the standard
//! library does not offer.

#![expect(
    unsafe_code,
    reason = "handles, pipes, windows and consoles are had by bare system calls"
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

/// A process, which keeps its pid as long as this is there, also when it has ended.
pub(crate) struct Process(OwnedHandle);

impl Process {
    /// Whoever has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let access = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE | PROCESS_TERMINATE;
        // SAFETY: three numbers.
        let handle = unsafe { OpenProcess(access, 0, pid) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and is closed by nobody else.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// When it was created, in units of 100 ns since 1601.
    pub(crate) fn start(&self) -> io::Result<u64> {
        let mut times = [FILETIME::default(); 4];
        let [creation, exit, kernel, user] = &mut times;
        // SAFETY: the handle is open, and all four places are this function's own.
        check(unsafe { GetProcessTimes(self.0.as_raw_handle(), creation, exit, kernel, user) })?;
        Ok(u64::from(creation.dwHighDateTime) << 32 | u64::from(creation.dwLowDateTime))
    }

    /// False: it lives on.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = u32::try_from(limit.as_millis()).unwrap_or(INFINITE);
        // SAFETY: the handle is open, and may be waited for.
        match unsafe { WaitForSingleObject(self.0.as_raw_handle(), limit) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_TIMEOUT => Ok(false),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        // SAFETY: the handle is open; what becomes of the process is what the test wants.
        check(unsafe { TerminateProcess(self.0.as_raw_handle(), 137) })
    }
}

/// Ends without destructors, exit handlers, or the last words of libraries (`TerminateProcess`).
pub fn exit_at_once(code: i32) -> ! {
    loop {
        // SAFETY: it takes nothing, and what it returns need not be closed.
        let myself = unsafe { GetCurrentProcess() };
        // SAFETY: that is this process; nothing of it is used afterwards.
        unsafe { TerminateProcess(myself, code as u32) };
    }
}

/// Dies as by another's `TerminateProcess`.
pub fn kill_self() -> ! {
    exit_at_once(137)
}

/// Nanoseconds on the clock that all processes share.
pub(crate) fn clock() -> io::Result<u64> {
    let (mut ticks, mut per_second) = (0, 0);
    // SAFETY: the place is this function's own.
    check(unsafe { QueryPerformanceCounter(&raw mut ticks) })?;
    // SAFETY: as above.
    check(unsafe { QueryPerformanceFrequency(&raw mut per_second) })?;
    let nanoseconds = i128::from(ticks) * 1_000_000_000 / i128::from(per_second);
    u64::try_from(nanoseconds).map_err(io::Error::other)
}

/// How many handles there are on the section of this name, without that by which it is asked; 0 if there is no
/// such section.
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
    // SAFETY: it was just opened, and is closed by nobody else.
    let section = unsafe { OwnedHandle::from_raw_handle(handle) };
    let mut facts = PUBLIC_OBJECT_BASIC_INFORMATION::default();
    // SAFETY: the handle is open, and the place is as long as is said.
    let status = unsafe {
        NtQueryObject(
            section.as_raw_handle(),
            ObjectBasicInformation,
            (&raw mut facts).cast(),
            size_of_val(&facts) as u32,
            ptr::null_mut(),
        )
    };
    if status < 0 {
        let reason = format!("NtQueryObject said {status:#x}");
        return Err(io::Error::other(reason));
    }
    Ok(facts.HandleCount - 1)
}

/// Makes a named pipe, and takes whoever connects. It stays until the process ends.
///
/// # Errors
///
/// What Windows says.
pub fn serve_pipe(name: &str) -> io::Result<()> {
    let name = wide(name);
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

/// A top-level window, never shown, of the thread that makes it. It stays until that thread ends.
#[derive(Debug)]
pub struct Window(HWND);

impl Window {
    /// One of a class of this name.
    ///
    /// # Errors
    ///
    /// What Windows says.
    pub fn create(class: &str) -> io::Result<Self> {
        let class = wide(class);
        let details = WNDCLASSW {
            lpfnWndProc: Some(DefWindowProcW),
            lpszClassName: class.as_ptr(),
            ..WNDCLASSW::default()
        };
        // SAFETY: the name ends with a NUL, and the procedure stays.
        if unsafe { RegisterClassW(&raw const details) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the class is the one above, its name ends with a NUL, and nothing else is pointed to.
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

    /// Returns when it is asked to close. It does not.
    ///
    /// # Errors
    ///
    /// What Windows says.
    pub fn wait_closed(&self) -> io::Result<()> {
        let mut message = MSG::default();
        loop {
            // SAFETY: the place is this function's own.
            let got = unsafe { GetMessageW(&raw mut message, self.0, 0, 0) };
            if got <= 0 {
                return Err(io::Error::last_os_error());
            }
            if message.message == WM_CLOSE {
                return Ok(());
            }
            // SAFETY: the message is the one that was just taken.
            unsafe { DispatchMessageW(&raw const message) };
        }
    }
}

/// What is typed on a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    C,
    Break,
}

/// Ctrl with this key, for everybody on this process's console.
///
/// # Errors
///
/// What Windows says: that this process has no console.
pub fn press_ctrl(key: Key) -> io::Result<()> {
    let event = match key {
        Key::C => CTRL_C_EVENT,
        Key::Break => CTRL_BREAK_EVENT,
    };
    // SAFETY: two numbers.
    check(unsafe { GenerateConsoleCtrlEvent(event, 0) })
}

/// What is typed on this process's console from now on, which then has no other effect on this process.
///
/// # Errors
///
/// What Windows says.
pub fn console_keys() -> io::Result<Receiver<Key>> {
    static KEYS: Mutex<Option<Sender<Key>>> = Mutex::new(None);

    unsafe extern "system" fn hear(event: u32) -> i32 {
        let key = match event {
            CTRL_C_EVENT => Key::C,
            CTRL_BREAK_EVENT => Key::Break,
            _ => return 0,
        };
        let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys.as_ref() {
            // Whoever does not listen any more does not want to be ended by it either.
            let _ = keys.send(key);
        }
        1
    }

    let (sender, receiver) = mpsc::channel();
    *KEYS.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    // SAFETY: the handler may be called at any time, on a thread of its own, and stays.
    check(unsafe { SetConsoleCtrlHandler(Some(hear), 1) })?;
    Ok(receiver)
}
