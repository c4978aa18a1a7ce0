//! The lines that a service's process writes to the service's log before it executes the program.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode};

use procref_config::prestart::protocol::{NOT_EXECUTED, REASON, shown_words};

use crate::error::Error;
use crate::text::shortened;

/// The longest `PATH` in a message, in characters.
const SHOWN_PATH: usize = 1000;

/// Writes the reason to the log, where the client finds it. The process must exit with the code that this returns.
pub(super) fn report(error: &Error) -> ExitCode {
    write(&format!("{REASON}{error}"));
    ExitCode::from(NOT_EXECUTED)
}

/// Writes a line to the service's log, which is this process's standard error.
///
/// The line is written by one call. Otherwise a reader could see a part of it, or a child of `init` could write into
/// it.
pub(super) fn write(line: &str) {
    // An error is ignored: without the log, there is no reader.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Returns why a program could not be executed, and what to do about it.
pub(super) fn exec_reason(program: &OsStr, error: &io::Error) -> String {
    let named = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound if !named.contains(std::path::is_separator) => {
            let path = env::var("PATH").unwrap_or_default();
            let path = shortened(&path, SHOWN_PATH);
            format!(
                "not found in the PATH of the service's environment, {path} (install the program, write its path, or \
                 add its directory to `path`)"
            )
        }
        io::ErrorKind::NotFound => format!(
            "{error} (the program, or the interpreter that its first line names, does not exist)"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("{error} (the program must be a regular file that this user may execute)")
        }
        _ => error.to_string(),
    }
}

/// Returns a command as one line of limited length.
pub(super) fn shown_command(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    shown_words(words.map(OsStr::to_string_lossy))
}
