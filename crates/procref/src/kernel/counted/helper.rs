//! The helper program: the program that becomes a keeper.
//!
//! A library cannot become a keeper by a fork alone on every system, so it executes a program that contains procref.
//! That is the current program, if procref is a part of it. A function that runs before `main` detects the marker in
//! the environment and becomes the keeper (`keeper::entry`).

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::main_program;
use super::place::Place;

/// The variable that makes a program a keeper: the path of the state file.
///
/// Descriptor 0 is the state file, and descriptor 1 is a socket that becomes readable when the keeper listens.
pub(crate) const STATE: &str = "PROCREF_KEEPER";
/// The path of the keeper's socket.
pub(crate) const SOCKET: &str = "PROCREF_KEEPER_SOCKET";
/// The variable with which a user names the helper program.
const HELPER: &str = "PROCREF_HELPER";
/// Variables that the program needs to start.
#[cfg(target_os = "linux")]
const KEPT: [&str; 2] = ["LD_LIBRARY_PATH", "LD_PRELOAD"];
#[cfg(target_os = "macos")]
const KEPT: [&str; 2] = ["DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES"];

/// Returns the helper program, or what the user can do.
pub(super) fn program() -> Result<PathBuf, String> {
    if let Some(program) = env::var_os(HELPER).filter(|it| !it.is_empty()) {
        return Ok(program.into());
    }
    if main_program::contains_this_code() {
        return main_program::path()
            .map_err(|error| format!("the path of this program is unknown: {error}"));
    }
    let dirs = env::var_os("PATH").unwrap_or_default();
    let candidates = env::split_paths(&dirs).map(|dir| dir.join("procref"));
    let installed = candidates.into_iter().find(|path| path.is_file());
    installed.ok_or_else(|| {
        format!(
            "this process has loaded procref as a library, so it needs a helper program: install the command `procref`, \
             or name a program that contains procref by {HELPER}"
        )
    })
}

/// Starts a keeper. The process that the command starts starts the keeper and exits, so that the keeper is no child of
/// this process.
pub(crate) fn start(
    program: &PathBuf,
    place: &Place,
    file: OwnedFd,
    ready: OwnedFd,
) -> io::Result<()> {
    let mut command = Command::new(program);
    command
        .arg0(&place.title)
        .env_clear()
        .env(STATE, &place.state)
        .env(SOCKET, &place.socket)
        .stdin(file)
        .stdout(ready)
        .stderr(Stdio::null());
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    #[cfg(test)]
    tests::add_fault(&mut command);
    let mut child = command.spawn()?;
    // A host program may reap all children, or ignore SIGCHLD.
    let _ = child.wait();
    Ok(())
}

/// Faults that tests inject into the next keeper that this process starts.
#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::process::Command;

    /// The number of the store after which the keeper dies.
    pub(crate) const DIES: &str = "PROCREF_TEST_KEEPER_DIES";
    /// Set if the keeper must not use pidfds.
    pub(crate) const NO_PIDFD: &str = "PROCREF_TEST_KEEPER_NO_PIDFD";

    thread_local! {
        /// The fault of the next keeper that this thread starts. 0 means none.
        pub(crate) static NEXT_DIES_AFTER: Cell<u32> = const { Cell::new(0) };
        /// Number of keepers that this thread has started.
        pub(crate) static STARTED: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn add_fault(command: &mut Command) {
        STARTED.set(STARTED.get() + 1);
        let stores = NEXT_DIES_AFTER.take();
        if stores > 0 {
            command.env(DIES, stores.to_string());
        }
        if std::env::var_os(NO_PIDFD).is_some() {
            command.env(NO_PIDFD, "1");
        }
    }
}
