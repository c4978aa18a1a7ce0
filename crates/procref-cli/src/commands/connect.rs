//! Connects standard input and output to a service.
//!
//! ```text
//! standard input  -> thread:      copy to the service, then shut down that direction
//! the service     -> main thread: copy to standard output, then close it
//! both have ended, or the service's process has exited -> release, exit
//! ```
//!
//! Each direction ends by itself, as `socat` does it: a client may close its input and still read the whole answer, and a
//! service may stop answering and still read.

use std::io::{self, ErrorKind, IsTerminal as _, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use procref::process::Process;
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;
use procref_config::value_parsers::When;

use crate::acquire::AcquiredServices;
use crate::args::ConnectArgs;
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::resolve;
use crate::text::shown;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) fn run(globals: &Globals, args: &ConnectArgs) -> Result<ExitCode> {
    let resolved = resolve::services(globals, slice::from_ref(&args.name), &args.service)?;
    let acquired = AcquiredServices::new(globals, &resolved)?;
    let (service, _) = acquired.service();
    let spec = resolved.named().next().expect("a resolved service");
    let bridged = Endpoint::of(service, spec, args.socket.as_ref())
        .and_then(|endpoint| Ok((endpoint.connect(service)?, endpoint)))
        .and_then(|(stream, endpoint)| bridge(service, stream, &endpoint));
    let released = acquired.release();
    bridged.and(released).map(|()| ExitCode::SUCCESS)
}

/// The address of a service on this machine.
enum Endpoint {
    Port(u16),
    Socket(PathBuf),
}

impl Endpoint {
    /// Returns the named socket, or the service's port, or the socket that its `ready` probes.
    fn of(service: &RunningService, spec: &ServiceSpec, named: Option<&PathBuf>) -> Result<Self> {
        if let Some(path) = named {
            return Ok(Self::Socket(service.filled(path.as_os_str()).into()));
        }
        match (service.info.port(), &spec.ready) {
            (0, Some(When::Socket(path))) => {
                Ok(Self::Socket(service.filled(path.as_os_str()).into()))
            }
            (0, _) => Err(Error::Usage(format!(
                "service `{}` has no port to connect to (if it has a socket, name it: --socket {{dir}}/NAME)",
                shown(&service.name)
            ))),
            (port, _) => Ok(Self::Port(port)),
        }
    }

    fn connect(&self, service: &RunningService) -> Result<sys::Stream> {
        let connected = match self {
            Self::Port(port) => connect_port(*port).map(sys::Stream::from),
            Self::Socket(path) => sys::Stream::connect(path),
        };
        connected.map_err(|error| {
            let what = format!("connect to service `{}` at {self}", shown(&service.name));
            Error::io(what, error)
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Socket(path) => f.write_str(&shown(&path.to_string_lossy())),
        }
    }
}

/// Connects to a port of this machine. A service listens at one loopback address, or at both.
fn connect_port(port: u16) -> io::Result<TcpStream> {
    let at = |address: SocketAddr| {
        let stream = TcpStream::connect(address)?;
        // Messages are small, and each one waits for its answer.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    at((Ipv4Addr::LOCALHOST, port).into()).or_else(|error| {
        // The first error is the more useful one if the machine has no IPv6.
        at((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error)
    })
}

/// Copies until the input ends.
///
/// `io::copy` uses `splice` on Linux. With `splice`, a small message of a slow writer can wait in the socket for the next
/// one, because the kernel expects more data.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                to.flush()?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Copies in both directions until both have ended, or the service's process has exited.
fn bridge(service: &RunningService, stream: sys::Stream, endpoint: &Endpoint) -> Result<()> {
    let failed = |error: io::Error| {
        let what = format!(
            "read the answer of service `{}` at {endpoint}",
            shown(&service.name)
        );
        Error::io(what, error)
    };
    let (ended, wait_ended) = mpsc::channel();
    let sending = stream.try_clone().map_err(failed)?;
    let sent = ended.clone();
    thread::spawn(move || {
        // If the service does not read any more, the answer shows why.
        let _ = sending.send_input();
        let _ = sent.send(());
    });
    match stream.receive_to_output() {
        Ok(()) => {}
        // The reader of standard output has exited.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    // The service does not answer any more. A person at a terminal is not asked for more input.
    if io::stdin().is_terminal() || !sys::close_output().map_err(failed)? {
        return Ok(());
    }
    let pid = service.info.pid();
    thread::spawn(move || {
        // The pid may belong to another process by now. That process is not the service, which has exited then.
        if let Ok(process) = Process::open(pid) {
            while matches!(process.wait(Duration::from_secs(3600)), Ok(false)) {}
        }
        let _ = ended.send(());
    });
    let _ = wait_ended.recv();
    Ok(())
}
