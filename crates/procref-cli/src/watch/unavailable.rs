//! Rejects `run --watch-client`, which this system does not support.
//!
//! On Windows, only a job lists the descendants of a process that has exited, and the client may be in a job that does not
//! allow another one. On macOS, a process whose parent exits becomes a child of the first process of the system, and no
//! other process can have it as its child.

use std::process::ExitCode;

use crate::error::{Error, Result};

/// The variable that is set in the child that becomes the client, on systems with such a child.
pub(crate) const WATCHED: &str = "PROCREF_WATCHED";

const REASON: &str = if cfg!(windows) {
    "`--watch-client` is not supported on Windows; remove it (procref is always the client's parent there, and holds the \
     service until the client has exited)"
} else {
    "`--watch-client` is not supported on macOS, where no process can become the parent of the client's descendants; \
     remove it (the client holds the service until it exits)"
};

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
        Err(Error::Usage(REASON.to_owned()))
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
