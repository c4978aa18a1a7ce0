//! Waits for a signal, for the exit of the service, and for the standard input.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use procref::ServiceInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

use super::HoldEnd;
use super::ending::Ending;
use crate::descriptor;
use crate::error::{Error, Result};
use crate::signals;

/// A socket that is readable after a stop signal.
pub(super) struct StopRequests(UnixStream);

impl StopRequests {
    /// Handles the stop signals. An ignored signal stays ignored. A blocked signal is unblocked, because it would never
    /// arrive.
    pub(super) fn listen() -> Result<Self> {
        let failed = |error| Error::io("handle signals", error);
        let (signalled, sender) = UnixStream::pair().map_err(failed)?;
        let mut signals = vec![SIGHUP, SIGINT, SIGQUIT, SIGTERM];
        signals.retain(|&it| !signals::is_ignored(it));
        for &signal in &signals {
            pipe::register(signal, sender.try_clone().map_err(failed)?).map_err(failed)?;
        }
        signals::unblock(signals.into_iter()).map_err(failed)?;
        Ok(Self(signalled))
    }

    /// Returns the reason to end that has occurred, if one has.
    pub(super) fn received(&self, ending: &Ending) -> Result<Option<HoldEnd>> {
        if ending.has_occurred() {
            return Ok(Some(HoldEnd::EndingReached));
        }
        let mut signalled = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut signalled, Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => Ok(None),
            Ok(_) => Ok(Some(HoldEnd::StopRequested)),
            Err(error) => Err(Error::io("wait for a signal", error.into())),
        }
    }

    /// Waits for a stop signal, for the exit of the service, or for `ending`, and returns the first of them.
    pub(super) fn wait(&self, service: &ServiceInfo, ending: &Ending) -> Result<HoldEnd> {
        let failed = |error: Errno| Error::io("wait for the service to exit", error.into());
        let process = open(service).map_err(failed)?;
        // A pipe without a writer is readable.
        let (ended, open) = descriptor::pipe().map_err(failed)?;
        ending.notify(move || drop(open));
        loop {
            let mut watched = vec![
                PollFd::new(&self.0, PollFlags::IN),
                PollFd::new(&ended, PollFlags::IN),
            ];
            watched.extend(process.iter().map(|it| PollFd::new(it, PollFlags::IN)));
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                polled => polled.map_err(failed)?,
            };
            if !watched[0].revents().is_empty() {
                return Ok(HoldEnd::StopRequested);
            }
            if !watched[1].revents().is_empty() {
                return Ok(HoldEnd::EndingReached);
            }
            if watched.get(2).is_some_and(|it| !it.revents().is_empty()) {
                return Ok(HoldEnd::ServiceExited);
            }
        }
    }
}

/// Waits for the end of the standard input, and discards the input.
pub(super) fn wait_end_of_input() -> io::Result<()> {
    let input = io::stdin();
    let mut discarded = [0; 4096];
    loop {
        // The caller may have made the input nonblocking.
        let mut readable = [PollFd::new(&input, PollFlags::IN)];
        match poll(&mut readable, None).and_then(|_| rustix::io::read(&input, &mut discarded)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens the service's process. Returns `None` if the service has no process on this machine.
fn open(info: &ServiceInfo) -> Result<Option<OwnedFd>, Errno> {
    if info.pid() == 0 {
        return Ok(None);
    }
    match descriptor::exit_fd(info.pid()) {
        // The kernel may have given the pid to another process. `is_alive` is false then, because the service exited.
        Ok(process) if info.is_alive() => Ok(Some(process)),
        // A pipe without a writer is readable at once, like the descriptor of a process that exited.
        Ok(_) | Err(Errno::SRCH) => Ok(Some(descriptor::pipe()?.0)),
        Err(error) => Err(error),
    }
}
