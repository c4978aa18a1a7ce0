//! Windows: the bare calls about processes, events, owners and directories, a function each. Return codes become
//! [`io::Error`] here, and nothing that Windows has allocated is lost. What procref makes of them is in the
//! modules below.
//!
//! A pid is given to somebody else only when the last handle to its process is closed. So who keeps a handle
//! open, and has compared the creation time through it, has one process for sure.

#![expect(unsafe_code, reason = "none of this is in the standard library")]

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::mem;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{AsHandle, AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_INVALID_PARAMETER, FARPROC, FILETIME, HANDLE, HMODULE, HWND,
    INVALID_HANDLE_VALUE, LPARAM, LocalFree, WAIT_FAILED, WAIT_OBJECT_0, WPARAM,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertSidToStringSidW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, GetSecurityInfo,
    SDDL_REVISION_1, SE_FILE_OBJECT, SE_OBJECT_TYPE,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID,
    SECURITY_ATTRIBUTES, TOKEN_INFORMATION_CLASS, TOKEN_OWNER, TOKEN_QUERY, TOKEN_USER, TokenOwner,
    TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, CreateDirectoryW, FILE_NOTIFY_CHANGE_FILE_NAME,
    FindCloseChangeNotification, FindFirstChangeNotificationW, GetFileInformationByHandle,
};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent, GetConsoleProcessList,
};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::Threading::{
    CreateEventW, EVENT_MODIFY_STATE, GetProcessId, GetProcessTimes, INFINITE, OpenEventW,
    OpenProcess, OpenProcessToken, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE, QueryFullProcessImageNameW, SetEvent, TerminateProcess,
    WaitForSingleObject,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{GW_OWNER, WM_CLOSE, WNDENUMPROC};

use crate::error::Result;
use crate::process::View;

mod asking;
pub(crate) mod directories;
mod identity;
pub(crate) mod proc_info;
pub(crate) mod security;
mod stop_event;

pub(crate) use asking::ask_windows;
pub(crate) use identity::{BREAK, Signal, open_identity};
pub(super) use identity::{
    CONTINUE, Handle, KILL, TERMINATE, is_alive, is_pid_alive, signal, start_time, wait,
};
pub use stop_event::StopEvent;

pub(crate) fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// 0 is how most calls say that they have failed.
fn check(done: i32) -> io::Result<()> {
    match done {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Those that return what went wrong.
fn check_code(code: u32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code as i32)),
    }
}

// --- processes -------------------------------------------------------------------------------------

/// The exit code of a process that was ended: what Unix shells show of one that was killed.
pub(crate) const KILLED: u32 = 137;

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

/// The path of its program.
fn image(process: &OwnedHandle) -> io::Result<Vec<u16>> {
    let mut room = vec![0; 4096];
    let mut length = room.len() as u32;
    // SAFETY: the handle is open, and `length` says how much of `room` may be written.
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

/// The session, whose named objects this process sees.
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
pub(crate) fn view() -> Result<View> {
    let mut session = 0;
    // SAFETY: the place is this function's own. Where the call fails it stays 0.
    unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
    Ok(View([session.into(), 0, 0, 0, 0, 0]))
}

/// A process cannot be forked here.
pub(crate) fn fork_epoch() -> u64 {
    1
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

// --- events ----------------------------------------------------------------------------------------

/// Opens a named event, or creates it, not set; once set it stays so. True if it was there.
fn create_event(name: &str, security: &'static Descriptor) -> io::Result<(OwnedHandle, bool)> {
    let (name, security) = (wide(name), security.attributes());
    // SAFETY: `name` ends with a NUL, and `security` is whole.
    let handle = unsafe { CreateEventW(&raw const security, 1, 0, name.as_ptr()) };
    let last = io::Error::last_os_error();
    if handle.is_null() {
        return Err(last);
    }
    let existed = last.raw_os_error() == Some(ERROR_ALREADY_EXISTS as i32);
    // SAFETY: it was just opened, and is closed by nobody else.
    Ok((unsafe { OwnedHandle::from_raw_handle(handle) }, existed))
}

/// False: there is none of this name, or it is not this user's.
fn set_event(name: &str) -> io::Result<bool> {
    let name = wide(name);
    // SAFETY: `name` ends with a NUL, and lives longer than the call.
    let handle = unsafe { OpenEventW(EVENT_MODIFY_STATE, 0, name.as_ptr()) };
    if handle.is_null() {
        return Ok(false);
    }
    // SAFETY: it was just opened, and is closed by nobody else.
    let event = unsafe { OwnedHandle::from_raw_handle(handle) };
    // SAFETY: the handle is open, and may be set: EVENT_MODIFY_STATE.
    check(unsafe { SetEvent(event.as_raw_handle()) }).map(|()| true)
}

// --- consoles and windows --------------------------------------------------------------------------

/// The processes on the console of this one, this one included. None, if it has no console.
fn on_console() -> Vec<u32> {
    let mut pids = vec![0; 64];
    loop {
        // SAFETY: the length says how much of `pids` may be written.
        let all = unsafe { GetConsoleProcessList(pids.as_mut_ptr(), pids.len() as u32) } as usize;
        let room = pids.len();
        pids.resize(all, 0);
        // Otherwise nothing was written but how much room it takes.
        if all <= room {
            return pids;
        }
    }
}

pub(crate) fn has_console() -> bool {
    !on_console().is_empty()
}

/// Ctrl-Break for the processes of a group that are on this process's console. Where there is no such group
/// it would be for everybody there.
fn press_break(group: u32) -> io::Result<()> {
    // SAFETY: two numbers.
    check(unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group) })
}

/// What is done to other processes' windows.
///
/// Loaded by the first who has to: a console program that has user32.dll is not told of a logoff or a
/// shutdown any more ([`HandlerRoutine`](https://learn.microsoft.com/windows/console/handlerroutine)), and a
/// library that is linked to it would do that to everybody who uses it.
struct Desktop {
    enumerate: unsafe extern "system" fn(WNDENUMPROC, LPARAM) -> i32,
    process: unsafe extern "system" fn(HWND, *mut u32) -> u32,
    related: unsafe extern "system" fn(HWND, u32) -> HWND,
    class: unsafe extern "system" fn(HWND, *mut u16, i32) -> i32,
    post: unsafe extern "system" fn(HWND, u32, WPARAM, LPARAM) -> i32,
}

impl Desktop {
    fn load() -> io::Result<Self> {
        let name = wide("user32.dll");
        // SAFETY: `name` ends with a NUL. The system's own is loaded, which does no harm, and stays.
        let user32 =
            unsafe { LoadLibraryExW(name.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
        if user32.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: EnumWindows has these parameters, and user32.dll stays.
            enumerate: unsafe { mem::transmute::<FARPROC, _>(function(user32, c"EnumWindows")?) },
            // SAFETY: GetWindowThreadProcessId has these.
            process: unsafe {
                mem::transmute::<FARPROC, _>(function(user32, c"GetWindowThreadProcessId")?)
            },
            // SAFETY: GetWindow has these.
            related: unsafe { mem::transmute::<FARPROC, _>(function(user32, c"GetWindow")?) },
            // SAFETY: GetClassNameW has these.
            class: unsafe { mem::transmute::<FARPROC, _>(function(user32, c"GetClassNameW")?) },
            // SAFETY: PostMessageW has these.
            post: unsafe { mem::transmute::<FARPROC, _>(function(user32, c"PostMessageW")?) },
        })
    }

    /// Those on this thread's desktop that no other window contains.
    fn windows(&self) -> io::Result<Vec<HWND>> {
        unsafe extern "system" fn keep(window: HWND, found: LPARAM) -> i32 {
            let found: *mut Vec<HWND> = ptr::with_exposed_provenance_mut(found as usize);
            // SAFETY: it is the list below, which nobody else touches while it is filled.
            unsafe { &mut *found }.push(window);
            1
        }
        let mut found = Vec::new();
        let place = (&raw mut found).expose_provenance() as LPARAM;
        // SAFETY: `keep` is called until this returns, with `place`, which is a list of handles until then.
        check(unsafe { (self.enumerate)(Some(keep), place) })?;
        Ok(found)
    }

    /// Whose it is. 0: it is gone.
    fn process_of(&self, window: HWND) -> u32 {
        let mut pid = 0;
        // SAFETY: any number may be asked for, and the place is this function's own.
        unsafe { (self.process)(window, &raw mut pid) };
        pid
    }

    /// Whether it is closed with another window, to which it belongs: a dialogue, say.
    fn is_owned(&self, window: HWND) -> bool {
        // SAFETY: any number may be asked for.
        !unsafe { (self.related)(window, GW_OWNER) }.is_null()
    }

    /// What kind of window it is. Empty: it is gone.
    fn class(&self, window: HWND) -> String {
        let mut room = [0; 256];
        // SAFETY: any number may be asked for, and the length says how much of `room` may be written.
        let length = unsafe { (self.class)(window, room.as_mut_ptr(), room.len() as i32) };
        String::from_utf16_lossy(&room[..length as usize])
    }

    /// Asks it to close. Does not wait until it has heard.
    fn close(&self, window: HWND) -> io::Result<()> {
        // SAFETY: the message has nothing but its number; whether it may be sent the kernel says.
        check(unsafe { (self.post)(window, WM_CLOSE, 0, 0) })
    }
}

fn function(library: HMODULE, name: &CStr) -> io::Result<FARPROC> {
    // SAFETY: the library is loaded, and the name ends with a NUL.
    match unsafe { GetProcAddress(library, name.as_ptr().cast()) } {
        None => Err(io::Error::last_os_error()),
        found => Ok(found),
    }
}

// --- owners ----------------------------------------------------------------------------------------

/// Something that Windows allocated, and wants back by LocalFree.
#[derive(Debug)]
struct Local(*mut core::ffi::c_void);

// SAFETY: what it points to is written once, before there is a `Local`, and only read from then on.
unsafe impl Send for Local {}
// SAFETY: as above.
unsafe impl Sync for Local {}

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: it came from LocalAlloc, by the functions below, and is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// A security descriptor, whole.
#[derive(Debug)]
struct Descriptor(Local);

impl Descriptor {
    /// From its definition language.
    fn parse(text: &str) -> io::Result<Self> {
        let text = wide(text);
        let mut descriptor = ptr::null_mut();
        // SAFETY: `text` ends with a NUL, and the place is this function's own.
        check(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                ptr::null_mut(),
            )
        })?;
        Ok(Self(Local(descriptor)))
    }

    /// What is created with these has this descriptor, and no child inherits the handle.
    fn attributes(&'static self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0.0,
            bInheritHandle: 0,
        }
    }

    /// In its definition language, as much of it as was asked for.
    fn to_text(&self, parts: u32) -> io::Result<String> {
        let mut text = ptr::null_mut();
        // SAFETY: the descriptor is whole and kept, and the place is this function's own.
        check(unsafe {
            ConvertSecurityDescriptorToStringSecurityDescriptorW(
                self.0.0,
                SDDL_REVISION_1,
                parts,
                &raw mut text,
                ptr::null_mut(),
            )
        })?;
        Ok(taken(text))
    }
}

/// A text that Windows allocated, which ends with a NUL.
fn taken(text: *mut u16) -> String {
    let kept = Local(text.cast());
    let mut units = Vec::new();
    let mut next = text;
    loop {
        // SAFETY: the text ends with a NUL, and `next` has not passed it.
        let unit = unsafe { next.read() };
        if unit == 0 {
            break;
        }
        units.push(unit);
        next = next.wrapping_add(1);
    }
    drop(kept);
    String::from_utf16_lossy(&units)
}

/// Of a SID that the caller keeps.
fn sid_as_text(sid: PSID) -> io::Result<String> {
    let mut text = ptr::null_mut();
    // SAFETY: `sid` points to a SID that the caller keeps, and the place is this function's own.
    check(unsafe { ConvertSidToStringSidW(sid, &raw mut text) })?;
    Ok(taken(text))
}

/// The SIDs of the user that this process runs as, and of whom the files that it creates are.
fn own_sids() -> io::Result<[String; 2]> {
    let mut token = ptr::null_mut();
    // SAFETY: the pseudo handle is always open, and the place is this function's own.
    check(unsafe { OpenProcessToken(MYSELF, TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: it was just opened, and is closed by nobody else.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let user = token_information(&token, TokenUser)?;
    let owner = token_information(&token, TokenOwner)?;
    // SAFETY: the kernel has written a TOKEN_USER there, and a u64 is aligned as one is.
    let user_sid = unsafe { (*user.as_ptr().cast::<TOKEN_USER>()).User.Sid };
    // SAFETY: the kernel has written a TOKEN_OWNER there, and a u64 is aligned as one is.
    let owner_sid = unsafe { (*owner.as_ptr().cast::<TOKEN_OWNER>()).Owner };
    Ok([sid_as_text(user_sid)?, sid_as_text(owner_sid)?])
}

/// What the kernel tells of a token, with the SIDs behind it.
fn token_information(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> io::Result<Vec<u64>> {
    // A SID has at most 68 bytes, and the structure before it 16.
    let mut room = vec![0_u64; 32];
    let size = size_of_val(&room[..]) as u32;
    let mut written = 0;
    // SAFETY: the token is open for queries, and `size` says how much of `room` may be written.
    check(unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            class,
            room.as_mut_ptr().cast(),
            size,
            &raw mut written,
        )
    })?;
    Ok(room)
}

/// The SID of whom something is that was opened with the right to read its security.
fn owner_of(handle: &impl AsHandle, kind: SE_OBJECT_TYPE) -> io::Result<String> {
    let (mut sid, mut descriptor) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the handle is open, and the two places that are written are this function's own.
    check_code(unsafe {
        GetSecurityInfo(
            handle.as_handle().as_raw_handle(),
            kind,
            OWNER_SECURITY_INFORMATION,
            &raw mut sid,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    })?;
    // The SID stands in it.
    let kept = Local(descriptor);
    if sid.is_null() {
        return Err(io::Error::other("it has no owner"));
    }
    let text = sid_as_text(sid);
    drop(kept);
    text
}

/// Owner and access list of a file or directory, in the security descriptor definition language.
fn access_text(path: &Path) -> io::Result<String> {
    const PARTS: u32 = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    let name = wide(path);
    let mut descriptor = ptr::null_mut();
    // SAFETY: `name` ends with a NUL, and the one place that is written is this function's own.
    check_code(unsafe {
        GetNamedSecurityInfoW(
            name.as_ptr(),
            SE_FILE_OBJECT,
            PARTS,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    })?;
    Descriptor(Local(descriptor)).to_text(PARTS)
}

// --- directories -----------------------------------------------------------------------------------

fn create_directory(dir: &Path, security: &'static Descriptor) -> io::Result<()> {
    let (name, security) = (wide(dir), security.attributes());
    // SAFETY: `name` ends with a NUL, and `security` is whole.
    check(unsafe { CreateDirectoryW(name.as_ptr(), &raw const security) })
}

fn file_information(file: &File) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the place is this function's own.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut information) })?;
    Ok(information)
}

/// Files of a directory that come, go, or change their names, from when this is made.
pub(crate) struct Changes(HANDLE);

// SAFETY: the handle may be waited for on any thread, and is closed once.
unsafe impl Send for Changes {}
// SAFETY: as above.
unsafe impl Sync for Changes {}

impl Changes {
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let name = wide(dir);
        // SAFETY: `name` ends with a NUL.
        let handle =
            unsafe { FindFirstChangeNotificationW(name.as_ptr(), 0, FILE_NOTIFY_CHANGE_FILE_NAME) };
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(Self(handle)),
        }
    }

    /// Waits for the first.
    pub(crate) fn wait(&self) -> io::Result<()> {
        // SAFETY: the handle is open, and may be waited for.
        match unsafe { WaitForSingleObject(self.0, INFINITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // SAFETY: it was opened by `of`, and is closed once.
        unsafe { FindCloseChangeNotification(self.0) };
    }
}
