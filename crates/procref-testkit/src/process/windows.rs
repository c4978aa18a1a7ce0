//! Named pipes, windows, and keys that nobody presses, which the standard library does not offer.

#![expect(
    unsafe_code,
    reason = "pipes, windows and consoles are had by bare system calls"
)]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};

use windows_sys::Win32::Foundation::{HWND, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::PIPE_ACCESS_DUPLEX;
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, CreateNamedPipeW, PIPE_TYPE_BYTE};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CreateWindowExW, DefWindowProcW, DispatchMessageW, GetMessageW, MSG, RegisterClassW, WM_CLOSE,
    WNDCLASSW, WS_OVERLAPPEDWINDOW,
};

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
        let class: Vec<u16> = class.encode_utf16().chain([0]).collect();
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
    match unsafe { GenerateConsoleCtrlEvent(event, 0) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What is typed on this process's console from now on, which then has no other effect on this process.
///
/// # Errors
///
/// What Windows says.
pub fn hear_keys() -> io::Result<Receiver<Key>> {
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
    match unsafe { SetConsoleCtrlHandler(Some(hear), 1) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(receiver),
    }
}
