//! The console of this process.

use std::io;

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent, GetConsoleProcessList,
};

use crate::call::check;

/// Returns the pids of the processes on this process's console, including this process. Returns an empty list
/// if there is no console.
#[must_use]
pub fn pids() -> Vec<u32> {
    let mut pids = vec![0; 64];
    loop {
        // SAFETY: `pids` has room for the given number of pids.
        let all = unsafe { GetConsoleProcessList(pids.as_mut_ptr(), pids.len() as u32) } as usize;
        let room = pids.len();
        pids.resize(all, 0);
        // If the room was too small, the call wrote nothing and returned the size that it needs.
        if all <= room {
            return pids;
        }
    }
}

/// Returns `true` if this process has a console.
#[must_use]
pub fn is_attached() -> bool {
    !pids().is_empty()
}

/// Sends Ctrl-Break to the processes of a process group that are on this process's console.
///
/// If no such group exists, Windows sends the event to every process on the console. Check [`pids`] first.
///
/// # Errors
///
/// Returns the error of the system call, for example if this process has no console.
pub fn send_break(group: u32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group) })
}
