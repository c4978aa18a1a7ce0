//! macOS marks a descriptor close-on-exec in a second step. A program that another thread executes between the two steps
//! inherits the descriptor.

use std::os::fd::OwnedFd;

use rustix::io::{FdFlags, Result, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType};

pub(crate) use procref_supervisor::process::exit_fd;

/// Returns a new pipe: the end to read, and the end to write.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    fcntl_setfd(&reader, FdFlags::CLOEXEC)?;
    fcntl_setfd(&writer, FdFlags::CLOEXEC)?;
    Ok((reader, writer))
}

pub(crate) fn stream_socket(family: AddressFamily) -> Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}
