//! Connecting without waiting longer than wanted.
//!
//! Sockets cannot be waited for together with a process, so every wait is cut into slices, and the process
//! looked at in between.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::wait::{Found, Watch};

/// How long one wait lasts. Also how long one connection is attempted: where nobody listens, Windows itself
/// tries again for two seconds before it says so.
const SLICE: Duration = Duration::from_millis(100);

pub(in crate::ready) fn accepts_tcp(address: SocketAddr, watch: &Watch<'_>) -> Found {
    match connect_tcp(address, watch) {
        Ok(_) => Found::Ready,
        Err(found) => found,
    }
}

/// A named pipe: opening it is connecting.
pub(in crate::ready) fn accepts_unix(path: &Path, _: &Watch<'_>) -> Found {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Found::Ready,
        Err(error) => failed(error),
    }
}

pub(in crate::ready) fn connect_tcp(
    address: SocketAddr,
    watch: &Watch<'_>,
) -> Result<TcpStream, Found> {
    // Zero would be refused.
    let limit = watch.left().clamp(Duration::from_millis(1), SLICE);
    let stream = TcpStream::connect_timeout(&address, limit).map_err(failed)?;
    // A connection to a port where nobody listens can be given that very port for its own end, and TCP then
    // connects it to itself.
    if stream.local_addr().map_err(failed)? == address {
        return Err(failed(io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
    Ok(stream)
}

pub(in crate::ready) fn send(
    socket: &TcpStream,
    bytes: &[u8],
    watch: &Watch<'_>,
) -> Result<(), Found> {
    let limit = watch.left().max(Duration::from_millis(1));
    socket.set_write_timeout(Some(limit)).map_err(failed)?;
    (&mut &*socket).write_all(bytes).map_err(failed)
}

/// What has come; nothing: the other side has closed it.
pub(in crate::ready) fn receive(
    socket: &TcpStream,
    buffer: &mut [u8],
    watch: &Watch<'_>,
) -> Result<usize, Found> {
    loop {
        if watch.has_alarm() {
            return Err(Found::Alarm);
        }
        if watch.is_over() {
            let why = "it accepts connections, and does not answer";
            return Err(Found::NotYet(why.to_owned()));
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

/// In a word where there is one: it stands at the end of a long sentence.
pub(in crate::ready) fn failed(error: io::Error) -> Found {
    Found::NotYet(match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied) => kind.to_string(),
        // Of a connection: nobody listens, and Windows has not said so yet.
        io::ErrorKind::TimedOut => "the connection is not accepted".to_owned(),
        _ => error.to_string(),
    })
}
