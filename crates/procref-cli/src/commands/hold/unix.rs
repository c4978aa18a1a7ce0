//! By signals, and the service's pidfd.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use procref::ServiceInfo;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

use super::End;
use crate::error::{Error, Result};
use crate::signals;

/// Readable when a signal has come.
pub(super) struct Wishes(UnixStream);

impl Wishes {
    /// A signal that was ignored stays ignored. A blocked signal is unblocked, because it would never arrive.
    pub(super) fn listen() -> Result<Self> {
        let failed = |error| Error::io("listen to signals", error);
        let (signalled, sender) = UnixStream::pair().map_err(failed)?;
        let mut wishes = vec![SIGHUP, SIGINT, SIGQUIT, SIGTERM];
        wishes.retain(|&it| !signals::is_ignored(it));
        for &signal in &wishes {
            pipe::register(signal, sender.try_clone().map_err(failed)?).map_err(failed)?;
        }
        signals::unblock(wishes.into_iter()).map_err(failed)?;
        Ok(Self(signalled))
    }

    /// Whichever comes first.
    pub(super) fn wait(&self, service: &ServiceInfo) -> Result<End> {
        let failed = |error: Errno| Error::io("wait for the service's end", error.into());
        let process = open(service).map_err(failed)?;
        loop {
            let mut watched = vec![PollFd::new(&self.0, PollFlags::IN)];
            watched.extend(process.iter().map(|it| PollFd::new(it, PollFlags::IN)));
            match poll(&mut watched, None) {
                Err(Errno::INTR) => continue,
                polled => polled.map_err(failed)?,
            };
            if !watched[0].revents().is_empty() {
                return Ok(End::Wish);
            }
            if watched.get(1).is_some_and(|it| !it.revents().is_empty()) {
                return Ok(End::Death);
            }
        }
    }
}

/// The service's process; `None` where it is none of this machine.
fn open(info: &ServiceInfo) -> Result<Option<OwnedFd>, Errno> {
    let pid = i32::try_from(info.pid()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Another process may have got its pid by now; it is dead then, and that is what is told.
        Ok(process) if info.is_alive() => Ok(Some(process)),
        // The end of this pipe has come already.
        Ok(_) | Err(Errno::SRCH) => Ok(Some(rustix::pipe::pipe()?.0)),
        Err(error) => Err(error),
    }
}
