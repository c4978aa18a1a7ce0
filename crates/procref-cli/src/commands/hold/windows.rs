//! Waits for the console, for the event that stops Windows programs, for the service's process and for the standard
//! input: one thread each.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use procref::ServiceInfo;
use procref::process::{Process, StopEvent};

use super::HoldEnd;
use super::ending::Ending;
use crate::error::{Error, Result};

/// A channel that receives the first reason to end.
pub(super) struct StopRequests {
    sender: Sender<Result<HoldEnd>>,
    receiver: Receiver<Result<HoldEnd>>,
}

impl StopRequests {
    pub(super) fn listen() -> Result<Self> {
        let failed = |error| Error::io("handle Ctrl-C", error);
        let (sender, receiver) = mpsc::channel();
        let requests = Self { sender, receiver };
        let sender = requests.sender.clone();
        // The handler is called for Ctrl-C, for Ctrl-Break, when the console's window closes, and when the user logs
        // out.
        let request = move || drop(sender.send(Ok(HoldEnd::StopRequested)));
        ctrlc::set_handler(request).map_err(|error| failed(io::Error::other(error)))?;
        let event = StopEvent::create()?;
        requests.spawn_waiter(move || {
            event.wait(Duration::MAX)?;
            Ok(HoldEnd::StopRequested)
        })?;
        Ok(requests)
    }

    /// Returns the reason to end that has occurred, if one has.
    pub(super) fn received(&self, ending: &Ending) -> Result<Option<HoldEnd>> {
        if ending.has_occurred() {
            return Ok(Some(HoldEnd::EndingReached));
        }
        self.receiver.try_recv().ok().transpose()
    }

    /// Waits for a stop request, for the exit of the service, or for `ending`, and returns the first of them.
    pub(super) fn wait(&self, service: &ServiceInfo, ending: &Ending) -> Result<HoldEnd> {
        let sender = self.sender.clone();
        ending.notify(move || drop(sender.send(Ok(HoldEnd::EndingReached))));
        if service.pid() != 0 {
            let process = Process::open(service.pid());
            // Windows may have given the pid to another process. `is_alive` is false then, because the service exited.
            if !service.is_alive() {
                return Ok(HoldEnd::ServiceExited);
            }
            let process = process?;
            self.spawn_waiter(move || {
                process.wait(Duration::MAX)?;
                Ok(HoldEnd::ServiceExited)
            })?;
        }
        // An error is impossible, because `self` has a sender.
        self.receiver.recv().unwrap_or(Ok(HoldEnd::StopRequested))
    }

    /// Waits on a thread, which runs until this process exits.
    fn spawn_waiter(
        &self,
        wait: impl FnOnce() -> procref::Result<HoldEnd> + Send + 'static,
    ) -> Result<()> {
        let sender = self.sender.clone();
        let send = move || drop(sender.send(wait().map_err(Error::from)));
        thread::Builder::new()
            .spawn(send)
            .map_err(|error| Error::io("wait for the service to exit", error))?;
        Ok(())
    }
}

/// Waits for the end of the standard input, and discards the input.
pub(super) fn wait_end_of_input() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}
