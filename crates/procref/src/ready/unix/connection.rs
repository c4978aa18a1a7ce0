//! Connecting without waiting longer than wanted.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::wait::{Found, Watch, Woken};

pub(in crate::ready) fn accepts_tcp(address: SocketAddr, watch: &Watch<'_>) -> Found {
    match connect_tcp(address, watch) {
        Ok(_) => Found::Ready,
        Err(found) => found,
    }
}

pub(in crate::ready) fn accepts_unix(path: &Path, watch: &Watch<'_>) -> Found {
    let connected = SocketAddrUnix::new(path)
        .map_err(failed)
        .and_then(|address| connect(AddressFamily::UNIX, &address, watch));
    match connected {
        Ok(_) => Found::Ready,
        Err(found) => found,
    }
}

pub(in crate::ready) fn connect_tcp(
    address: SocketAddr,
    watch: &Watch<'_>,
) -> Result<OwnedFd, Found> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = connect(family, &address, watch)?;
    to_somebody_else(socket, address)
}

/// A connection to a port where nobody listens can be given that very port for its own end, and TCP
/// then connects it to itself.
///
/// It is nobody's, and must not stay behind for a minute in TIME_WAIT, where it would keep the service
/// from binding: without lingering, closing it is the end of it.
pub(in crate::ready) fn to_somebody_else(
    socket: OwnedFd,
    address: SocketAddr,
) -> Result<OwnedFd, Found> {
    let own = rustix::net::getsockname(&socket).map_err(failed)?;
    if SocketAddr::try_from(own) != Ok(address) {
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

pub(in crate::ready) fn send(
    socket: &OwnedFd,
    mut bytes: &[u8],
    watch: &Watch<'_>,
) -> Result<(), Found> {
    while !bytes.is_empty() {
        wait(socket, PollFlags::OUT, watch)?;
        // NOSIGNAL: the program this is a part of may die of SIGPIPE.
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// What has come; nothing: the other side has closed it.
pub(in crate::ready) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    watch: &Watch<'_>,
) -> Result<usize, Found> {
    loop {
        wait(socket, PollFlags::IN, watch)?;
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => return Ok(length),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn wait(socket: &OwnedFd, flags: PollFlags, watch: &Watch<'_>) -> Result<(), Found> {
    match watch.wait_for(socket, flags) {
        Woken::Event => Ok(()),
        Woken::Alarm => Err(Found::Alarm),
        Woken::Time => {
            let why = "it accepts connections, and does not answer";
            Err(Found::NotYet(why.to_owned()))
        }
    }
}

/// In a word where there is one: it stands at the end of a long sentence.
pub(in crate::ready) fn failed(error: impl Into<io::Error>) -> Found {
    let error: io::Error = error.into();
    Found::NotYet(match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied) => kind.to_string(),
        _ => error.to_string(),
    })
}
