//! Sends stop requests to processes.

use std::io;
use std::os::windows::io::OwnedHandle;

use procref_winsys::console;
use procref_winsys::process::open;
use procref_winsys::window::Desktop;
use windows_sys::Win32::System::Threading::PROCESS_QUERY_INFORMATION;

use super::stop_event::set_stop_event;

/// States whether a process is known to be the leader of a process group. The number of such a group is the
/// pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Leader,
    Unknown,
}

/// Sends a stop request to a process: by its stop event, by Ctrl-Break, or to its windows. Uses only the
/// first of these that the process has.
///
/// While a process cleans up after its stop event, an unexpected Ctrl-Break would terminate it. Returns
/// `false` if the process has none of the three. The caller must keep a handle on the process open, so that
/// the pid is not reused.
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
/// Call this only for the leader of a group. For any other number, Windows sends the event to every process
/// on the console, including the user's shell and this process.
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
/// Windows attributes the window of a console to one process on the console, and to another process after the
/// first one exits. Closing this window would end every process on the console. The window of the input
/// method exists with every other window, and no program handles its `WM_CLOSE`.
const IGNORED_CLASSES: [&str; 3] = ["ConsoleWindowClass", "PseudoConsoleWindow", "IME"];

/// Sends `WM_CLOSE` to the windows of processes: top-level windows that no other window owns, visible or not,
/// on this thread's desktop, except consoles.
///
/// `is_target` gets the pid and a handle of the process that has created a window. Returns `false` if the
/// processes have no such windows, or none that this process may send messages to.
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
        // Skip processes of other users, because they cannot be opened.
        let Ok(Some(process)) = open(pid, PROCESS_QUERY_INFORMATION) else {
            continue;
        };
        if !is_target(pid, &process) || desktop.is_owned(window) {
            continue;
        }
        if IGNORED_CLASSES.contains(&desktop.class(window).as_str()) {
            continue;
        }
        // Check the window again, because Windows reuses the number of a closed window. It does not reuse the
        // pid while the handle is open.
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
