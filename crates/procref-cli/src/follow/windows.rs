//! By looking again and again: Windows tells of a file that somebody writes to only when it is closed.

use std::fs::File;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use procref::SharedService;

use super::{Next, Source};
use crate::error::{Error, Result};

/// How often: as often as people notice.
const LOOK: Duration = Duration::from_millis(100);

/// A channel that is closed when the service has stopped.
pub(super) struct News(Receiver<()>);

impl News {
    /// The thread that waits for the service's end ends with this process.
    pub(super) fn of(_: &Source, service: SharedService) -> Result<Self> {
        let (open, stopped) = mpsc::channel::<()>();
        let wait = move || {
            // An error is an end as well: there is nothing more to wait for.
            let _ = service.wait_stopped_blocking(Duration::MAX);
            drop(open);
        };
        let thread = thread::Builder::new().name("procref: logs".to_owned());
        thread
            .spawn(wait)
            .map_err(|error| Error::io("wait for the service's end", error))?;
        Ok(Self(stopped))
    }

    pub(super) fn next(&mut self, _: &Source) -> Result<Next> {
        Ok(match self.0.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Disconnected) => Next::Over,
            _ => Next::Look,
        })
    }
}

pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    procref::windows::identity(file)
}
