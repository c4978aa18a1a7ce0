//! Connects with a time limit.
//!
//! Windows cannot wait for a socket and a process together. So each wait is split into slices, and procref
//! checks the process between them.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::wait::{ProbeResult, ReadinessWait};

/// The length of one slice, and the time limit of one connection attempt. If no process listens, Windows
/// itself retries for two seconds before it returns an error.
const SLICE: Duration = Duration::from_millis(100);

pub(in crate::ready) fn accepts_tcp(address: SocketAddr, watch: &ReadinessWait<'_>) -> ProbeResult {
    match connect_tcp(address, watch) {
        Ok(_) => ProbeResult::Ready,
        Err(found) => found,
    }
}

/// Opening a named pipe connects to it.
pub(in crate::ready) fn accepts_unix(path: &Path, _: &ReadinessWait<'_>) -> ProbeResult {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => ProbeResult::Ready,
        Err(error) => failed(error),
    }
}

pub(in crate::ready) fn connect_tcp(
    address: SocketAddr,
    watch: &ReadinessWait<'_>,
) -> Result<TcpStream, ProbeResult> {
    // Windows refuses zero.
    let limit = watch.left().clamp(Duration::from_millis(1), SLICE);
    let stream = TcpStream::connect_timeout(&address, limit).map_err(failed)?;
    // A connection to a port without a listener can get that same port for its own end. TCP then connects it
    // to itself.
    if stream.local_addr().map_err(failed)? == address {
        return Err(failed(io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
    Ok(stream)
}

pub(in crate::ready) fn send(
    socket: &TcpStream,
    bytes: &[u8],
    watch: &ReadinessWait<'_>,
) -> Result<(), ProbeResult> {
    let limit = watch.left().max(Duration::from_millis(1));
    socket.set_write_timeout(Some(limit)).map_err(failed)?;
    (&mut &*socket).write_all(bytes).map_err(failed)
}

/// Returns the received bytes, or none if the other side has closed the connection.
pub(in crate::ready) fn receive(
    socket: &TcpStream,
    buffer: &mut [u8],
    watch: &ReadinessWait<'_>,
) -> Result<usize, ProbeResult> {
    loop {
        if watch.has_alarm() {
            return Err(ProbeResult::Alarm);
        }
        if watch.is_over() {
            let why = "it accepts connections but does not answer";
            return Err(ProbeResult::NotYet(why.to_owned()));
        }
        let limit = watch.left().clamp(Duration::from_millis(1), SLICE);
        socket.set_read_timeout(Some(limit)).map_err(failed)?;
        match (&mut &*socket).read(buffer) {
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted => {}
                _ => return Err(failed(error)),
            },
            Ok(length) => return Ok(length),
        }
    }
}

/// Returns a short reason if there is one, because the message that ends with it is already long.
pub(in crate::ready) fn failed(error: io::Error) -> ProbeResult {
    ProbeResult::NotYet(match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied) => kind.to_string(),
        // No process listens, and Windows has not reported that yet.
        io::ErrorKind::TimedOut => "the connection is not accepted".to_owned(),
        _ => error.to_string(),
    })
}
