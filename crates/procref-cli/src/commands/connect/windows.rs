//! A stream is a TCP connection. procref connects to no named pipe, because two threads cannot use one at the same time
//! without overlapped calls.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use super::copy;

/// A connection to a service.
pub(super) struct Stream(TcpStream);

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl Stream {
    pub(super) fn connect(_: &Path) -> io::Result<Self> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "sockets with a path need Unix (use the service's port)",
        ))
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Copies standard input to the service until it ends, and tells the service that it has ended.
    pub(super) fn send_input(&self) -> io::Result<()> {
        let copied = copy(io::stdin().lock(), &self.0);
        self.0.shutdown(Shutdown::Write)?;
        copied
    }

    /// Copies the service's answer to standard output until it ends.
    pub(super) fn receive_to_output(&self) -> io::Result<()> {
        copy(&self.0, io::stdout().lock())
    }
}

/// Does nothing and returns `false`: standard output ends with this process.
pub(super) fn close_output() -> io::Result<bool> {
    Ok(false)
}
