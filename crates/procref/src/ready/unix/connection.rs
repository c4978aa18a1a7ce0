//! Connects with a time limit.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType, sockopt};

use super::wait::{ProbeResult, ReadinessWait, WakeReason};
use crate::descriptor::{Blocking, NO_SIGNAL, socket};

pub(in crate::ready) fn accepts_tcp(address: SocketAddr, watch: &ReadinessWait<'_>) -> ProbeResult {
    match connect_tcp(address, watch) {
        Ok(_) => ProbeResult::Ready,
        Err(found) => found,
    }
}

pub(in crate::ready) fn accepts_unix(path: &Path, watch: &ReadinessWait<'_>) -> ProbeResult {
    let connected = SocketAddrUnix::new(path)
        .map_err(failed)
        .and_then(|address| connect(AddressFamily::UNIX, &address, watch));
    match connected {
        Ok(_) => ProbeResult::Ready,
        Err(found) => found,
    }
}

pub(in crate::ready) fn connect_tcp(
    address: SocketAddr,
    watch: &ReadinessWait<'_>,
) -> Result<OwnedFd, ProbeResult> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = connect(family, &address, watch)?;
    to_somebody_else(socket, address)
}

/// Returns `true` if the socket is connected to itself. A connection to a port without a listener can get
/// that same port for its own end, and TCP then connects it to itself.
///
/// Such a connection must not stay in TIME_WAIT for a minute, because it would prevent the service from
/// binding. With a linger time of zero, `close` removes it immediately.
pub(in crate::ready) fn to_somebody_else(
    socket: OwnedFd,
    address: SocketAddr,
) -> Result<OwnedFd, ProbeResult> {
    let own = rustix::net::getsockname(&socket).map_err(failed)?;
    if SocketAddr::try_from(own) != Ok(address) {
        return Ok(socket);
    }
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).map_err(failed)?;
    Err(failed(Errno::CONNREFUSED))
}

/// Returns a connected socket that does not block.
fn connect(
    family: AddressFamily,
    address: &impl SocketAddrArg,
    watch: &ReadinessWait<'_>,
) -> Result<OwnedFd, ProbeResult> {
    let socket = socket(family, SocketType::STREAM, Blocking::No).map_err(failed)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        // The queue of a Unix socket is full.
        Err(error) => return Err(failed(error)),
    }
    match watch.wait_for(&socket, PollFlags::OUT) {
        WakeReason::Alarm => Err(ProbeResult::Alarm),
        WakeReason::Time => Err(ProbeResult::NotYet(
            "the connection is not accepted".to_owned(),
        )),
        WakeReason::Event => match sockopt::socket_error(&socket) {
            Ok(Ok(())) => Ok(socket),
            Ok(Err(error)) | Err(error) => Err(failed(error)),
        },
    }
}

pub(in crate::ready) fn send(
    socket: &OwnedFd,
    mut bytes: &[u8],
    watch: &ReadinessWait<'_>,
) -> Result<(), ProbeResult> {
    while !bytes.is_empty() {
        wait(socket, PollFlags::OUT, watch)?;
        // SIGPIPE could kill the host program.
        match rustix::net::send(socket, bytes, NO_SIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Returns the received bytes, or none if the other side has closed the connection.
pub(in crate::ready) fn receive(
    socket: &OwnedFd,
    buffer: &mut [u8],
    watch: &ReadinessWait<'_>,
) -> Result<usize, ProbeResult> {
    loop {
        wait(socket, PollFlags::IN, watch)?;
        match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => return Ok(length),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

fn wait(socket: &OwnedFd, flags: PollFlags, watch: &ReadinessWait<'_>) -> Result<(), ProbeResult> {
    match watch.wait_for(socket, flags) {
        WakeReason::Event => Ok(()),
        WakeReason::Alarm => Err(ProbeResult::Alarm),
        WakeReason::Time => {
            let why = "it accepts connections but does not answer";
            Err(ProbeResult::NotYet(why.to_owned()))
        }
    }
}

/// Returns a short reason if there is one, because the message that ends with it is already long.
pub(in crate::ready) fn failed(error: impl Into<io::Error>) -> ProbeResult {
    let error: io::Error = error.into();
    ProbeResult::NotYet(match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied) => kind.to_string(),
        _ => error.to_string(),
    })
}
