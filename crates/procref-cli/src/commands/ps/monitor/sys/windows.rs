//! Stands for signals and for notifications about files. The screen is updated at its interval, and when a wait for a
//! service ends.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::Sender;

use super::super::Event;
use crate::error::Result;

/// Ctrl-C is a key in raw mode, and no other signal exists.
pub(in super::super) fn listen(_: Sender<Event>) -> Result<()> {
    Ok(())
}

pub(in super::super) fn exit_by(_: i32) -> ExitCode {
    ExitCode::FAILURE
}

pub(in super::super) fn exit_by_interrupt() -> ExitCode {
    ExitCode::FAILURE
}

pub(in super::super) fn suspend_job() {}

pub(in super::super) fn suspend() -> Result<()> {
    Ok(())
}

pub(in super::super) struct Changes;

impl Changes {
    pub(in super::super) fn new(_: Sender<Event>) -> Self {
        Self
    }

    pub(in super::super) fn watch_dir(&self, _: &Path) {}

    pub(in super::super) fn watch_log(&mut self, _: Option<&Path>) {}
}
