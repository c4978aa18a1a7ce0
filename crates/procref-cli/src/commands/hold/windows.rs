//! By the console, the event that Windows programs are asked to stop by, and the service's process: a thread
//! for each.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use procref::ServiceInfo;
use procref::process::{Process, StopEvent};

use super::End;
use crate::error::{Error, Result};

pub(super) struct Wishes {
    sender: Sender<Result<End>>,
    receiver: Receiver<Result<End>>,
}

impl Wishes {
    pub(super) fn listen() -> Result<Self> {
        let failed = |error| Error::io("listen to Ctrl-C", error);
        let (sender, receiver) = mpsc::channel();
        let wishes = Self { sender, receiver };
        let sender = wishes.sender.clone();
        // Ctrl-C, Ctrl-Break, the console's window closed, and the user logging out.
        let wish = move || drop(sender.send(Ok(End::Wish)));
        ctrlc::set_handler(wish).map_err(|error| failed(io::Error::other(error)))?;
        let event = StopEvent::create()?;
        wishes.on_thread(move || {
            event.wait(Duration::MAX)?;
            Ok(End::Wish)
        })?;
        Ok(wishes)
    }

    /// Whichever comes first.
    pub(super) fn wait(&self, service: &ServiceInfo) -> Result<End> {
        if service.pid() != 0 {
            let process = Process::open(service.pid());
            // Another process may have got its pid by now; it is dead then, and that is what is told.
            if !service.is_alive() {
                return Ok(End::Death);
            }
            let process = process?;
            self.on_thread(move || {
                process.wait(Duration::MAX)?;
                Ok(End::Death)
            })?;
        }
        // There is always a sender, here.
        self.receiver.recv().unwrap_or(Ok(End::Wish))
    }

    /// The thread ends with this process.
    fn on_thread(
        &self,
        wait: impl FnOnce() -> procref::Result<End> + Send + 'static,
    ) -> Result<()> {
        let sender = self.sender.clone();
        let told = move || drop(sender.send(wait().map_err(Error::from)));
        thread::Builder::new()
            .spawn(told)
            .map_err(|error| Error::io("wait for the service's end", error))?;
        Ok(())
    }
}
