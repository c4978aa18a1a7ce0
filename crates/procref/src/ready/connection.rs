//! Connecting without waiting longer than wanted.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::watch::{Found, Watch, Woken};

pub(super) fn accepts_tcp(address: SocketAddrV4, watch: &Watch<'_>) -> Found {
    match connect_tcp(address, watch) {
        Ok(_) => Found::Ready,
        Err(found) => found,
    }
}

pub(super) fn accepts_unix(path: &Path, watch: &Watch<'_>) -> Found {
    let connected = SocketAddrUnix::new(path)
        .map_err(failed)
        .and_then(|address| connect(AddressFamily::UNIX, &address, watch));
    match connected {
        Ok(_) => Found::Ready,
        Err(found) => found,
    }
}

pub(super) fn connect_tcp(address: SocketAddrV4, watch: &Watch<'_>) -> Result<OwnedFd, Found> {
    let socket = connect(AddressFamily::INET, &address, watch)?;
    to_somebody_else(socket, address)
}

/// A connection to a port where nobody listens can be given that very port for its own end, and TCP
/// then connects it to itself.
///
/// It is nobody's, and must not stay behind for a minute in TIME_WAIT, where it would keep the service
/// from binding: without lingering, closing it is the end of it.
pub(super) fn to_somebody_else(socket: OwnedFd, address: SocketAddrV4) -> Result<OwnedFd, Found> {
    let own = rustix::net::getsockname(&socket).map_err(failed)?;
    if SocketAddr::try_from(own) != Ok(SocketAddr::V4(address)) {
        return Ok(socket);
    }
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).map_err(failed)?;
    Err(failed(Errno::CONNREFUSED))
}

/// A connected socket that does not block.
fn connect(
    family: AddressFamily,
    address: &impl SocketAddrArg,
    watch: &Watch<'_>,
) -> Result<OwnedFd, Found> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        // For a Unix socket: its queue is full.
        Err(error) => return Err(failed(error)),
    }
    match watch.wait_for(&socket, PollFlags::OUT) {
        Woken::Alarm => Err(Found::Alarm),
        Woken::Time => Err(Found::NotYet("the connection is not accepted".to_owned())),
        Woken::Event => match sockopt::socket_error(&socket) {
            Ok(Ok(())) => Ok(socket),
            Ok(Err(error)) | Err(error) => Err(failed(error)),
        },
    }
}

/// In a word where there is one: it stands at the end of a long sentence.
pub(super) fn failed(error: Errno) -> Found {
    let error = io::Error::from(error);
    Found::NotYet(match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied) => kind.to_string(),
        _ => error.to_string(),
    })
}
