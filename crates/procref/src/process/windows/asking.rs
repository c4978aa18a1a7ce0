//! By what a process is asked to end.

use std::io;
use std::os::windows::io::OwnedHandle;

use windows_sys::Win32::System::Threading::PROCESS_QUERY_INFORMATION;

use super::stop_event::set_stop_event;
use super::{Desktop, on_console, open, press_break};

/// Whether a process is known to be the first of a process group, which has its pid for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Own,
    Unknown,
}

/// Asks a process by the first of its stop event, Ctrl-Break and its windows that it has, and by no other: who
/// tidies up because of the event would be ended in the middle of it by a Ctrl-Break that it does not expect.
/// False: it has none.
///
/// The caller keeps a handle on the process open, so that the pid stays its own.
pub(super) fn ask(pid: u32, group: Group) -> io::Result<bool> {
    let by = if set_stop_event(pid)? {
        "its stop event"
    } else if group == Group::Own && ask_by_console(pid) {
        "Ctrl-Break"
    } else if ask_windows(|owner, _| owner == pid) {
        "WM_CLOSE"
    } else {
        return Ok(false);
    };
    tracing::debug!(pid, by, "asked to end");
    Ok(true)
}

/// False: it is not on this process's console.
///
/// Only for the first of a group. To Windows any other number means everybody on the console: its user's shell,
/// and this process.
fn ask_by_console(group: u32) -> bool {
    if !on_console().contains(&group) {
        return false;
    }
    match press_break(group) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(pid = group, %error, "could not send Ctrl-Break");
            false
        }
    }
}

/// The classes of windows that are not the program's own.
///
/// Those of consoles, seen or shown by a terminal: Windows says that one is of a process on the console, and gives
/// it to another when that ends. To close it would be to end everybody there. And that of the input method, which
/// comes with every other window, and which no program listens to.
const OTHERS: [&str; 3] = ["ConsoleWindowClass", "PseudoConsoleWindow", "IME"];

/// Asks the windows of processes to close: those that stand by themselves, seen or not, on this thread's
/// desktop, but for consoles. False: they have none, or none that this process may ask.
pub(crate) fn ask_windows(are_meant: impl Fn(u32, &OwnedHandle) -> bool) -> bool {
    close_windows(are_meant).unwrap_or_else(|error| {
        tracing::debug!(%error, "could not look for windows");
        false
    })
}

fn close_windows(are_meant: impl Fn(u32, &OwnedHandle) -> bool) -> io::Result<bool> {
    let desktop = Desktop::load()?;
    let mut asked = false;
    for window in desktop.windows()? {
        let pid = desktop.process_of(window);
        // Others' are not this process's to open, and not to ask.
        let Ok(Some(process)) = open(pid, PROCESS_QUERY_INFORMATION) else {
            continue;
        };
        if !are_meant(pid, &process) || desktop.is_owned(window) {
            continue;
        }
        if OTHERS.contains(&desktop.class(window).as_str()) {
            continue;
        }
        // Asked again, because a window's number, too, is given to others when it is closed. This pid is not
        // while the handle is open.
        if desktop.process_of(window) != pid {
            continue;
        }
        // Posted. To send it would be to wait for a process that hangs.
        match desktop.close(window) {
            Ok(()) => asked = true,
            Err(error) => tracing::debug!(pid, %error, "could not ask a window to close"),
        }
    }
    Ok(asked)
}
