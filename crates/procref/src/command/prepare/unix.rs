//! A program with its descriptors, prepared for a child that may only make system calls.

use std::ffi::{CString, OsString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};

use super::{Parts, Port};
use crate::command::ServiceLog;
use crate::command::log::files;
use crate::descriptor::{Blocking, socket};
use crate::error::foreground;
use crate::ready::{Addresses, Probe};

/// Room for the digits of any pid.
const LISTEN_PID: &str = "0000000000";

/// Sockets that keep the port until they are dropped.
pub(crate) type Reserved = Vec<OwnedFd>;

/// A prepared program, ready to be forked and executed. All descriptors are close-on-exec.
pub(crate) struct Prepared {
    /// The absolute path of the program.
    pub(crate) program: CString,
    /// `argv`, which begins with the program as given.
    pub(crate) args: Vec<CString>,
    /// The environment, as `NAME=VALUE`.
    pub(crate) env: Vec<CString>,
    /// The absolute path of the working directory.
    pub(crate) dir: CString,
    /// The port, or 0 if there is none.
    pub(crate) port: u16,
    /// The standard input.
    pub(crate) null: OwnedFd,
    pub(crate) log: ServiceLog,
    pub(crate) supervised_log: SupervisedLog,
    /// The descriptors from 3 on.
    pub(crate) listeners: Vec<OwnedFd>,
    /// The index of `LISTEN_PID=0000000000` in `env`. The child overwrites the zeros with the digits of its
    /// pid and a final NUL. The pid has no leading zeros, because systemd's `sd_listen_fds` reads a number
    /// with a leading 0 as octal.
    pub(crate) listen_pid: Option<usize>,
    /// Sockets that keep the port until they are dropped, right before the program is executed. Without them,
    /// the kernel could give the free port to another process, for example to another service that starts at
    /// this moment.
    pub(crate) reserved: Reserved,
    pub(crate) ready: Probe,
}

/// The part of the log's settings that the supervisor needs.
pub(crate) struct SupervisedLog {
    /// The path of the log, the path of the rotated log, and their directory; then the parts of a message
    /// about leftover processes: the text before the exit status, the text after it, and the text after a
    /// success.
    pub(crate) texts: [CString; 6],
    /// The size limit, in bytes.
    pub(crate) limit: u64,
}

impl SupervisedLog {
    fn new(log: &ServiceLog, limit: u64, line: &[String]) -> io::Result<Self> {
        let [path, rotated] = files(&log.path);
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let program = line.first().map_or("", String::as_str);
        let before = format!("procref: `{program}` ");
        let after = " and left other processes, which procref stops";
        let advice = format!(": {}", foreground::advice(line));
        let words = [before, after.to_owned(), advice].map(|text| {
            // One line, without a NUL inside.
            text.replace(|c: char| c.is_control(), " ")
        });
        let [path, rotated, dir] = [path, rotated, dir].map(|path| c_string(path.into()));
        let [before, after, advice] = words.map(|text| c_string(text.into()));
        Ok(Self {
            texts: [path?, rotated?, dir?, before?, after?, advice?],
            limit,
        })
    }
}

impl Parts {
    /// Returns the error together with the failed operation.
    pub(super) fn prepared(self) -> Result<Prepared, (&'static str, io::Error)> {
        let Self {
            program,
            name,
            line,
            log_limit,
            args,
            mut env,
            dir,
            port:
                Port {
                    number: port,
                    reserved,
                    listeners,
                    ..
                },
            log,
            ready,
        } = self;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())
            .map_err(|error| ("open /dev/null", error.into()))?;
        if !listeners.is_empty() {
            env.insert("LISTEN_FDS".into(), listeners.len().to_string().into());
            env.insert("LISTEN_FDNAMES".into(), "procref".into());
            env.insert("LISTEN_PID".into(), LISTEN_PID.into());
        }
        let listen_pid = match listeners.is_empty() {
            true => None,
            false => env.keys().position(|name| name == "LISTEN_PID"),
        };
        let c_string = |text| c_string(text).map_err(|error| ("pass a NUL byte", error));
        let supervised_log = SupervisedLog::new(&log, log_limit, &line)
            .map_err(|error| ("pass a NUL byte", error))?;
        let env = env.into_iter().map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            c_string(variable)
        });
        let args = std::iter::once(name).chain(args).map(c_string);
        Ok(Prepared {
            program: c_string(program.into())?,
            args: args.collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            dir: c_string(dir.into())?,
            port,
            null,
            log,
            supervised_log,
            listeners,
            listen_pid,
            reserved,
            ready,
        })
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

/// Creates a listening socket for the service.
pub(super) fn listen(port: u16) -> io::Result<Port> {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let number = listener.local_addr()?.port();
    Ok(Port {
        number,
        addresses: Some(Addresses::v4(number)),
        reserved: Vec::new(),
        listeners: vec![listener.into()],
    })
}

pub(super) fn check_socket_path(path: &Path) -> Result<(), String> {
    /// The size of `sun_path`, without a NUL.
    const LONGEST: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

    match SocketAddrUnix::new(path) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "{} is longer than {LONGEST} bytes, the limit for the path of a socket",
            path.display()
        )),
    }
}

/// Creates a socket that is bound to the port and does not listen. Connections are refused, and other
/// processes cannot bind the port.
///
/// A fixed port is free although connections of a previous instance are in TIME_WAIT. If the kernel chooses
/// the port, it chooses one without such connections.
pub(super) fn reserve(address: SocketAddr) -> io::Result<OwnedFd> {
    bind(address, address.port() != 0)
}

/// Like [`reserve`], for a port that is free at the other address. This fails if connections of the port are
/// in TIME_WAIT.
pub(super) fn reserve_alone(address: SocketAddr) -> io::Result<OwnedFd> {
    bind(address, false)
}

fn bind(address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, Blocking::Yes)?;
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Returns `true` if this kernel does not support addresses of this kind.
pub(super) fn has_no_family(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

/// Releases a reserved port.
///
/// Another thread may have forked a child, in which the sockets stay open. The option belongs to the socket,
/// not to the descriptor. With it, a server that also sets the option, like most servers, can bind the port
/// anyway.
pub(crate) fn release_port(sockets: Reserved) {
    for socket in sockets {
        // An error is ignored, because the port is taken only if such a child exists.
        let _ = sockopt::set_socket_reuseaddr(&socket, true);
    }
}

pub(super) fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.port())
}
