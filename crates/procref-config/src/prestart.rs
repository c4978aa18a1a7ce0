//! The work that a service's process does before it executes the service's program.
//!
//! The helper, which is the program `procref`, does this work in the service's process and then executes the program.
//! This crate writes the helper's command line, and reads its reports.
//!
//! | module | contents |
//! |---|---|
//! | [`command_line`] | builds the helper's command line, and finds the program in it |
//! | [`task`] | the part of it that is JSON |
//! | [`dependency`] | the services that the helper joins |
//! | [`protocol`] | the lines in the log and the files by which the helper reports |
//! | [`failure`] | finds the reason of a failure in the log |
//! | `root` | the hint about a server that refuses to run as root |

pub mod command_line;
pub mod dependency;
pub mod failure;
pub mod protocol;
pub(crate) mod root;
pub mod task;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::{ready_after_exec, started, started_by_default};

/// Delays the readiness probe until the program was executed, if the helper runs first.
pub fn ready_after_helper(
    command: procref::ServiceCommand,
    words: &[std::ffi::OsString],
) -> procref::ServiceCommand {
    match words
        .get(1)
        .is_some_and(|word| word == protocol::SUBCOMMAND)
    {
        true => ready_after_exec(command),
        false => command,
    }
}
