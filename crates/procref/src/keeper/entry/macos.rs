//! The steps of a new keeper that macOS makes in its own way.

#![expect(unsafe_code, reason = "issetugid has no safe wrapper")]

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{exit, start};

/// The variable that marks the second of two processes: see [`detach`].
const DETACHED: &str = "PROCREF_KEEPER_DETACHED";

/// Does nothing: the name of a keeper is its first argument.
pub(super) fn name_process() {}

/// Returns `true` if the program has more rights than the user who executed it. Such a program must not obey the
/// environment.
pub(super) fn is_privileged() -> bool {
    // SAFETY: no pointers are passed.
    unsafe { libc::issetugid() != 0 }
}

/// Continues in a process that the starter does not have to reap.
///
/// The system supports no code after a fork except system calls. So this process executes its program again and exits.
pub(super) fn detach() {
    if env::var_os(DETACHED).is_some() {
        return;
    }
    let again = env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        if let Some(title) = env::args_os().next() {
            command.arg0(title);
        }
        command.env(DETACHED, "1").spawn()
    });
    exit(match again {
        Ok(_) => 0,
        Err(_) => start::FAILED,
    });
}
