//! macOS marks a descriptor close-on-exec in a second step.
//!
//! A child that another thread forks between the two steps inherits the descriptor. The standard library has the same
//! gap. So no guarantee depends on a descriptor that only its owner has: see `launch/unix.rs`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{FdFlags, Result, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};

use super::Blocking;

/// No flag: the sockets themselves have the option `SO_NOSIGPIPE`.
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();

pub(super) fn socket(
    family: AddressFamily,
    kind: SocketType,
    blocking: Blocking,
) -> Result<OwnedFd> {
    let socket = rustix::net::socket(family, kind, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    sockopt::set_socket_nosigpipe(&socket, true)?;
    ioctl_fionbio(&socket, blocking == Blocking::No)?;
    Ok(socket)
}

pub(super) fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    let socket = rustix::net::accept(listener)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    // If the other end is closed already, the kernel refuses the option. A keeper, which is the only process that accepts
    // connections, blocks SIGPIPE.
    let _ = sockopt::set_socket_nosigpipe(&socket, true);
    Ok(socket)
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    fcntl_setfd(&reader, FdFlags::CLOEXEC)?;
    fcntl_setfd(&writer, FdFlags::CLOEXEC)?;
    Ok((reader, writer))
}
