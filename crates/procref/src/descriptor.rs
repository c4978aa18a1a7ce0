//! New descriptors, which a program that this process executes does not inherit.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

/// The flag with which a message to a closed connection is an error and no signal. The sockets of this module need no
/// other protection.
pub(crate) use sys::NO_SIGNAL;

/// States whether calls on a socket wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocking {
    Yes,
    No,
}

/// Returns a new socket.
pub(crate) fn socket(
    family: AddressFamily,
    kind: SocketType,
    blocking: Blocking,
) -> rustix::io::Result<OwnedFd> {
    sys::socket(family, kind, blocking)
}

/// Returns two connected Unix sockets.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    Ok((one.into(), other.into()))
}

/// Accepts a connection, whose socket does not block.
pub(crate) fn accept(listener: impl AsFd) -> rustix::io::Result<OwnedFd> {
    sys::accept(listener)
}

/// Returns the read end and the write end of a new pipe.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(sys::pipe()?)
}
