//! `run --watch-client`, which is not there on Windows: nothing tells of the children of a process that has
//! ended, but a job, and a client may be in one that does not allow another.

use std::process::ExitCode;

use crate::error::{Error, Result};

/// Set in the child that becomes the client, where there is one.
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

/// There is none.
pub(crate) enum Watcher {}

impl Watcher {
    pub(crate) fn new() -> Result<Self> {
        let reason = "`--watch-client` is not there on Windows: procref is the client's parent in any case, and the \
                      service is held until the client itself has ended; leave it out";
        Err(Error::Usage(reason.to_owned()))
    }

    pub(crate) fn watch(self) -> Result<Ended> {
        match self {}
    }
}

/// How a client has ended that was watched.
pub(crate) enum Ended {}

impl Ended {
    pub(crate) fn code(&self) -> ExitCode {
        match *self {}
    }
}
