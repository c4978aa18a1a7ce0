//! A program with descriptors, for a child that may do nothing but system calls.

use std::ffi::{CString, OsString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::{Parts, Port};
use crate::command::ServiceLog;
use crate::command::log::files;
use crate::error::foreground;
use crate::ready::{Addresses, Probe};

/// Room for the digits of any pid.
const LISTEN_PID: &str = "0000000000";

/// Sockets that have the port until they are dropped.
pub(crate) type Reserved = Vec<OwnedFd>;

/// A program that only has to be forked and executed. All descriptors are close-on-exec.
pub(crate) struct Prepared {
    /// Its absolute path.
    pub(crate) program: CString,
    /// `argv`, the program as it was named first.
    pub(crate) args: Vec<CString>,
    /// `NAME=VALUE`.
    pub(crate) env: Vec<CString>,
    /// Its working directory, absolute.
    pub(crate) dir: CString,
    /// 0: none.
    pub(crate) port: u16,
    /// Its standard input.
    pub(crate) null: OwnedFd,
    pub(crate) log: ServiceLog,
    pub(crate) supervised_log: SupervisedLog,
    /// What it gets as descriptors 3 and up.
    pub(crate) listeners: Vec<OwnedFd>,
    /// Where in `env` there is `LISTEN_PID=0000000000`, for the child to write its pid over: from the
    /// first digit on, with a NUL behind the last one of its own. Padding would not do: to
    /// systemd's `sd_listen_fds` a number that begins with 0 is octal.
    pub(crate) listen_pid: Option<usize>,
    /// Has the port until it is dropped. That is to be right before the program is executed: a port
    /// that was merely found to be free can be given to anybody else meanwhile, also to another
    /// service that is started at this moment.
    pub(crate) reserved: Reserved,
    pub(crate) ready: Probe,
}

/// What the supervisor has to know of the log.
pub(crate) struct SupervisedLog {
    /// The log's path, that of what is kept of it, and their directory; then what a note about processes that
    /// the program left begins with, what follows the exit status, and what follows that after a success.
    pub(crate) texts: [CString; 6],
    /// How long it may get, in bytes.
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
            // On one line, and an end of the text where C has one.
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
    /// An error, and what could not be done.
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

/// A socket for the service that listens already.
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
    match SocketAddrUnix::new(path) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "{} is longer than the 107 bytes that a socket's path may have",
            path.display()
        )),
    }
}

/// A socket that has the port and does not listen: whoever connects is refused, and whoever binds it
/// gets an error.
///
/// Connections of an instance before, in TIME_WAIT, do not make a port taken. For a port that the kernel
/// chooses they should: then it looks further.
pub(super) fn reserve(address: SocketAddr) -> io::Result<OwnedFd> {
    bind(address, address.port() != 0)
}

/// [`reserve`] for a port that is free at another address: it is taken by connections in TIME_WAIT, too.
pub(super) fn reserve_alone(address: SocketAddr) -> io::Result<OwnedFd> {
    bind(address, false)
}

fn bind(address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let (stream, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, stream, flags, None)?;
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// Returns `true` if this kernel does not know addresses of this kind.
pub(super) fn has_no_family(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

/// Lets go of a reserved port.
///
/// The sockets may outlive that, in a child that another thread of this process has forked meanwhile. With
/// this option, which is the socket's and not the descriptor's, a server that sets it, too, as most do,
/// can bind the port all the same.
pub(crate) fn release_port(sockets: Reserved) {
    for socket in sockets {
        // Where it is refused, the port is free all the same unless there is such a child.
        let _ = sockopt::set_socket_reuseaddr(&socket, true);
    }
}

pub(super) fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.port())
}
