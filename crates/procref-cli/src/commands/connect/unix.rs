//! A stream is a socket, whose two directions end separately.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::Shutdown;

use super::copy;

/// A connection to a service.
pub(super) struct Stream(File);

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(OwnedFd::from(stream).into())
    }
}

impl Stream {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        Ok(Self(OwnedFd::from(stream).into()))
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Copies standard input to the service until it ends, and tells the service that it has ended.
    pub(super) fn send_input(&self) -> io::Result<()> {
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let copied = copy(input, &self.0);
        rustix::net::shutdown(&self.0, Shutdown::Write)?;
        copied
    }

    /// Copies the service's answer to standard output until it ends.
    pub(super) fn receive_to_output(&self) -> io::Result<()> {
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        copy(&self.0, output)
    }
}

/// Closes standard output, so that its reader gets the end of the answer. Returns `true` if it is closed.
pub(super) fn close_output() -> io::Result<bool> {
    // A closed descriptor 1 would be reused for the next file.
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(true)
}
