//! Top-level windows of other processes.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::ptr;

use windows_sys::Win32::Foundation::{FARPROC, HMODULE, HWND, LPARAM, WPARAM};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{GW_OWNER, WM_CLOSE, WNDENUMPROC};

use crate::call::{check, wide};

type EnumWindows = unsafe extern "system" fn(WNDENUMPROC, LPARAM) -> i32;
type GetWindowThreadProcessId = unsafe extern "system" fn(HWND, *mut u32) -> u32;
type GetWindow = unsafe extern "system" fn(HWND, u32) -> HWND;
type GetClassNameW = unsafe extern "system" fn(HWND, *mut u16, i32) -> i32;
type PostMessageW = unsafe extern "system" fn(HWND, u32, WPARAM, LPARAM) -> i32;

/// The functions of user32.dll, loaded on first use.
///
/// A console program that has loaded user32.dll is not notified of a logoff or a shutdown
/// ([`HandlerRoutine`](https://learn.microsoft.com/windows/console/handlerroutine)). A library that links to user32.dll
/// would impose that on every program.
#[derive(Debug)]
pub struct Desktop {
    enumerate: EnumWindows,
    process: GetWindowThreadProcessId,
    related: GetWindow,
    class: GetClassNameW,
    post: PostMessageW,
}

/// The number of a window. Windows gives it to another window after this one is closed.
#[derive(Clone, Copy, Debug)]
pub struct Window(HWND);

impl Desktop {
    /// Loads user32.dll.
    ///
    /// # Errors
    ///
    /// Returns an error if the call fails to load it.
    pub fn load() -> io::Result<Self> {
        let name = wide("user32.dll");
        // SAFETY: `name` ends with a NUL. Only the system's own library is loaded, and it is never unloaded.
        let user32 =
            unsafe { LoadLibraryExW(name.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
        if user32.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: EnumWindows has this signature, and user32.dll stays loaded.
            enumerate: unsafe {
                mem::transmute::<FARPROC, EnumWindows>(function(user32, c"EnumWindows")?)
            },
            // SAFETY: GetWindowThreadProcessId has this signature, and user32.dll stays loaded.
            process: unsafe {
                mem::transmute::<FARPROC, GetWindowThreadProcessId>(function(
                    user32,
                    c"GetWindowThreadProcessId",
                )?)
            },
            // SAFETY: GetWindow has this signature, and user32.dll stays loaded.
            related: unsafe {
                mem::transmute::<FARPROC, GetWindow>(function(user32, c"GetWindow")?)
            },
            // SAFETY: GetClassNameW has this signature, and user32.dll stays loaded.
            class: unsafe {
                mem::transmute::<FARPROC, GetClassNameW>(function(user32, c"GetClassNameW")?)
            },
            // SAFETY: PostMessageW has this signature, and user32.dll stays loaded.
            post: unsafe {
                mem::transmute::<FARPROC, PostMessageW>(function(user32, c"PostMessageW")?)
            },
        })
    }

    /// Returns the top-level windows on this thread's desktop, visible or not.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call.
    pub fn windows(&self) -> io::Result<Vec<Window>> {
        unsafe extern "system" fn push(window: HWND, found: LPARAM) -> i32 {
            let found: *mut Vec<Window> = ptr::with_exposed_provenance_mut(found as usize);
            // SAFETY: `found` is the local variable of `windows`, which no other code uses during the call.
            unsafe { &mut *found }.push(Window(window));
            1
        }
        let mut found: Vec<Window> = Vec::new();
        let place = (&raw mut found).expose_provenance() as LPARAM;
        // SAFETY: Windows calls `push` with `place` until this call returns. Until then `found` is a list of windows.
        check(unsafe { (self.enumerate)(Some(push), place) })?;
        Ok(found)
    }

    /// Returns the pid of the process that has created a window, or 0 if the window is closed.
    #[must_use]
    pub fn process_of(&self, window: Window) -> u32 {
        let mut pid = 0;
        // SAFETY: any number may be passed for a window, and the call writes to a local variable.
        unsafe { (self.process)(window.0, &raw mut pid) };
        pid
    }

    /// Returns `true` if another window owns this one, for example if it is a dialog. It is closed with its owner.
    #[must_use]
    pub fn is_owned(&self, window: Window) -> bool {
        // SAFETY: any number may be passed for a window.
        !unsafe { (self.related)(window.0, GW_OWNER) }.is_null()
    }

    /// Returns the name of a window's class. It is empty if the window is closed.
    #[must_use]
    pub fn class(&self, window: Window) -> String {
        let mut room = [0; 256];
        // SAFETY: any number may be passed for a window, and the length is that of `room`.
        let length = unsafe { (self.class)(window.0, room.as_mut_ptr(), room.len() as i32) };
        String::from_utf16_lossy(&room[..length as usize])
    }

    /// Posts `WM_CLOSE` to a window, and does not wait for an answer. Sending the message would wait for the
    /// process, which may hang.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call, for example if the process has higher privileges.
    pub fn post_close(&self, window: Window) -> io::Result<()> {
        // SAFETY: WM_CLOSE has no parameters, and any number may be passed for a window.
        check(unsafe { (self.post)(window.0, WM_CLOSE, 0, 0) })
    }
}

fn function(library: HMODULE, name: &CStr) -> io::Result<FARPROC> {
    // SAFETY: the library is loaded, and the name ends with a NUL.
    match unsafe { GetProcAddress(library, name.as_ptr().cast()) } {
        None => Err(io::Error::last_os_error()),
        found => Ok(found),
    }
}
