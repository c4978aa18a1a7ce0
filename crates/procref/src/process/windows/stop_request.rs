//! Asking a process to exit.

use std::io;
use std::os::windows::io::OwnedHandle;

use procref_winsys::console;
use procref_winsys::process::open;
use procref_winsys::window::Desktop;
use windows_sys::Win32::System::Threading::PROCESS_QUERY_INFORMATION;

use super::stop_event::set_stop_event;

/// Whether a process is known to be the leader of a process group. The group then has the pid as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Leader,
    Unknown,
}

/// Asks a process to exit by the first of its stop event, Ctrl-Break and its windows that it has, and by no other.
///
/// A process that cleans up after its stop event would be ended by a Ctrl-Break that it does not expect. Returns `false` if
/// the process has none of the three. The caller must keep a handle on the process open, so that the pid stays its own.
pub(super) fn request_stop(pid: u32, group: Group) -> io::Result<bool> {
    let by = if set_stop_event(pid)? {
        "its stop event"
    } else if group == Group::Leader && request_by_console(pid) {
        "Ctrl-Break"
    } else if close_windows(|owner, _| owner == pid) {
        "WM_CLOSE"
    } else {
        return Ok(false);
    };
    tracing::debug!(pid, by, "asked a process to exit");
    Ok(true)
}

/// Sends Ctrl-Break to a process group. Returns `false` if its leader is not on this process's console.
///
/// Only for the leader of a group. For any other number, Windows sends the event to every process on the console: the
/// user's shell, and this process.
fn request_by_console(group: u32) -> bool {
    if !console::pids().contains(&group) {
        return false;
    }
    match console::send_break(group) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(pid = group, %error, "could not send Ctrl-Break");
            false
        }
    }
}

/// The classes of windows that a program does not create for itself.
///
/// Windows attributes the window of a console to one process on the console, and to another one when that exits. To close
/// it would end every process there. The window of the input method comes with every other window, and no program handles
/// its `WM_CLOSE`.
const IGNORED_CLASSES: [&str; 3] = ["ConsoleWindowClass", "PseudoConsoleWindow", "IME"];

/// Asks the windows of processes to close: top-level windows that no other window owns, visible or not, on this thread's
/// desktop, except consoles.
///
/// `is_target` gets the pid and a handle of the process that has created a window. Returns `false` if the processes have no
/// such windows, or none that this process may ask.
pub(crate) fn close_windows(is_target: impl Fn(u32, &OwnedHandle) -> bool) -> bool {
    try_close_windows(is_target).unwrap_or_else(|error| {
        tracing::debug!(%error, "could not list windows");
        false
    })
}

fn try_close_windows(is_target: impl Fn(u32, &OwnedHandle) -> bool) -> io::Result<bool> {
    let desktop = Desktop::load()?;
    let mut asked = false;
    for window in desktop.windows()? {
        let pid = desktop.process_of(window);
        // Processes of other users cannot be opened, and are not asked.
        let Ok(Some(process)) = open(pid, PROCESS_QUERY_INFORMATION) else {
            continue;
        };
        if !is_target(pid, &process) || desktop.is_owned(window) {
            continue;
        }
        if IGNORED_CLASSES.contains(&desktop.class(window).as_str()) {
            continue;
        }
        // Checked again, because Windows reuses the number of a closed window. It does not reuse the pid while the handle
        // is open.
        if desktop.process_of(window) != pid {
            continue;
        }
        match desktop.post_close(window) {
            Ok(()) => asked = true,
            Err(error) => tracing::debug!(pid, %error, "could not ask a window to close"),
        }
    }
    Ok(asked)
}
