//! Polls the log, because Windows reports a change of a file only when the writer closes the file.

use std::fs::File;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use procref::SharedService;

use super::{Change, LogFile};
use crate::error::{Error, Result};

/// The polling interval. People do not notice a shorter delay.
const INTERVAL: Duration = Duration::from_millis(100);

/// A channel that is closed when the service has stopped.
pub(super) struct Changes(Option<Receiver<()>>);

impl Changes {
    pub(super) fn watch(_: &LogFile) -> Result<Self> {
        Ok(Self(None))
    }

    /// Starts a thread that waits until the service has stopped. The thread ends with this process.
    pub(super) fn wait_stopped(&mut self, service: SharedService) -> Result<()> {
        let (open, stopped) = mpsc::channel::<()>();
        let wait = move || {
            // After an error, there is nothing to wait for either.
            let _ = service.wait_stopped_blocking(Duration::MAX);
            drop(open);
        };
        let thread = thread::Builder::new().name("procref: logs".to_owned());
        thread
            .spawn(wait)
            .map_err(|error| Error::io("wait for the service to stop", error))?;
        self.0 = Some(stopped);
        Ok(())
    }

    pub(super) fn next(&mut self, _: &LogFile) -> Result<Change> {
        let Some(stopped) = &self.0 else {
            thread::sleep(INTERVAL);
            return Ok(Change::Output);
        };
        Ok(match stopped.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Disconnected) => Change::Stopped,
            _ => Change::Output,
        })
    }
}

/// Returns the volume and the index of a file.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    procref_winsys::directory::identity(file)
}
