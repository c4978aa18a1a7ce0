//! A run without a window. Only one process can be waited for at a time, and that is the service.

use std::ffi::OsStr;
use std::io;
use std::os::windows::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use super::{Watch, Woken, look_again};

pub(super) fn prepare(command: &mut Command, _: &OsStr) {
    command.creation_flags(CREATE_NO_WINDOW);
}

/// Its exit status, or what came before it had one.
pub(super) fn wait(child: &mut Child, watch: &Watch<'_>) -> io::Result<Result<ExitStatus, Woken>> {
    look_again(watch, || child.try_wait())
}

pub(super) fn end(child: &mut Child) {
    if let Err(error) = child.kill() {
        tracing::debug!(%error, "could not kill a readiness command");
    }
}

/// Returns `true` if the file is not a program for this machine: `ERROR_BAD_EXE_FORMAT`.
pub(super) fn is_no_program(error: &io::Error) -> bool {
    error.raw_os_error() == Some(193)
}
