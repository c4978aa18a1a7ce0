//! A program for `CreateProcess`.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::{Parts, Port};
use crate::command::ServiceLog;
use crate::ready::Probe;

/// Sockets that keep the port until they are dropped. A client that connects earlier gets no answer.
pub(crate) type Reserved = Vec<TcpListener>;

/// A prepared program, ready to be started.
pub(crate) struct Prepared {
    /// The absolute path of the program.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The absolute path of the working directory.
    pub(crate) dir: PathBuf,
    /// The port, or 0 if there is none.
    pub(crate) port: u16,
    pub(crate) log: ServiceLog,
    /// Sockets that keep the port until right before the program runs.
    pub(crate) reserved: Reserved,
    pub(crate) ready: Probe,
}

impl Parts {
    /// Returns the error together with the failed operation.
    pub(super) fn prepared(self) -> Result<Prepared, (&'static str, io::Error)> {
        Ok(Prepared {
            program: self.program,
            args: self.args,
            env: self.env.into_iter().collect(),
            dir: self.dir,
            port: self.port.number,
            log: self.log,
            reserved: self.port.reserved,
            ready: self.ready,
        })
    }
}

/// `build` rejects this.
pub(super) fn listen(_: u16) -> io::Result<Port> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The path must be that of a named pipe.
pub(super) fn check_socket_path(path: &Path) -> Result<(), String> {
    let shown = path.display().to_string().to_ascii_lowercase();
    match shown.replace('/', r"\").starts_with(r"\\.\pipe\") {
        true => Ok(()),
        false => Err(format!(
            r"{} is no named pipe (\\.\pipe\NAME), which stands here for a Unix socket",
            path.display()
        )),
    }
}

pub(super) fn reserve(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// Calls [`reserve`], because a port in TIME_WAIT is free on Windows.
pub(super) fn reserve_alone(address: SocketAddr) -> io::Result<TcpListener> {
    reserve(address)
}

/// Returns `true` if this system does not support addresses of this kind: `WSAEAFNOSUPPORT`.
pub(super) fn has_no_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(10047)
}

/// Releases a reserved port.
pub(crate) fn release_port(sockets: Reserved) {
    drop(sockets);
}

pub(super) fn port_of(socket: &TcpListener) -> io::Result<u16> {
    Ok(socket.local_addr()?.port())
}
