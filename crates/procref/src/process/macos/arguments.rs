//! The arguments and the environment of another process, as they were when it executed its program.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use procref_supervisor::process::{ARGUMENTS_ROOM, SUPERVISOR_TITLE, arguments};

/// Returns all arguments, with a NUL after each. Returns `None` if the process has exited, or if the system hides them from
/// this user.
pub(crate) fn line(pid: u32) -> Option<Vec<u8>> {
    let mut room = room();
    let arguments = arguments(pid, &mut room)?.arguments();
    Some(
        arguments
            .flat_map(|it| it.iter().copied().chain([0]))
            .collect(),
    )
}

/// Returns the value of a variable, or `None` if it is not set or not known.
pub(crate) fn variable(pid: u32, name: &str) -> Option<OsString> {
    let mut room = room();
    let value = arguments(pid, &mut room)?.variable(name.as_bytes())?;
    Some(OsString::from_vec(value.to_vec()))
}

/// Returns the value of a variable if the first argument is the title of a keeper.
pub(crate) fn variable_of_titled(pid: u32, name: &str) -> Option<OsString> {
    let mut room = room();
    let all = arguments(pid, &mut room)?;
    let title = all.arguments().next()?;
    let is_titled = title.starts_with(SUPERVISOR_TITLE.as_bytes());
    let value = all.variable(name.as_bytes()).filter(|_| is_titled)?;
    Some(OsString::from_vec(value.to_vec()))
}

/// The kernel gives this process only the pages that are written to.
fn room() -> Vec<u8> {
    vec![0; ARGUMENTS_ROOM]
}
