//! Rejects `run --watch-client`, which Windows does not support.
//!
//! Only a job lists the descendants of a process that has exited. The client may be in a job that does not allow another
//! one.

use std::process::ExitCode;

use crate::error::{Error, Result};

/// The variable that is set in the child that becomes the client, on systems with such a child.
pub(crate) const WATCHED: &str = "PROCREF_WATCHED";

pub(crate) fn is_watched() -> bool {
    false
}

pub(crate) fn is_first_process() -> bool {
    false
}

pub(crate) fn restore_signals() -> Result<()> {
    Ok(())
}

/// A type without values.
pub(crate) enum Watcher {}

impl Watcher {
    pub(crate) fn new() -> Result<Self> {
        let reason = "`--watch-client` is not supported on Windows; remove it (procref is always the client's parent \
                      there, and holds the service until the client has exited)";
        Err(Error::Usage(reason.to_owned()))
    }

    pub(crate) fn watch(self) -> Result<ClientExit> {
        match self {}
    }
}

/// A type without values.
pub(crate) enum ClientExit {}

impl ClientExit {
    pub(crate) fn code(&self) -> ExitCode {
        match *self {}
    }
}
