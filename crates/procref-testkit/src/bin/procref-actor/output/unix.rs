//! Output to the standard output or a socket.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

/// The standard output, or the socket of a forked child.
#[derive(Default)]
pub struct Output(Option<UnixStream>);

impl Output {
    /// Writes to this socket instead of the standard output.
    pub fn to_socket(socket: UnixStream) -> Self {
        Self(Some(socket))
    }

    pub fn write_line(&mut self, line: &[u8]) {
        match &mut self.0 {
            Some(socket) => drop(socket.write_all(line)),
            None => write_to_stdout(line),
        }
    }
}

/// Writes with `write(2)`. The standard library's standard output has a lock, which a forked child could inherit
/// while it is held.
fn write_to_stdout(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
