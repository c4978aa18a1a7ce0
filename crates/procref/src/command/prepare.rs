//! Everything that a start needs, made before there is a process that must not allocate.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{self, Path, PathBuf};

use regex_lite::Regex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::log::{Forbidden, ServiceLog};
use super::{ServiceCommand, program};
use crate::error::{Error, Result};
use crate::name::ServiceKey;
use crate::ready::{Kind, LogLines, Probe, Trial, notify_socket};
use crate::template;

/// Room for the digits of any pid.
const LISTEN_PID: &str = "0000000000";

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
    /// What it gets as descriptors 3 and up.
    pub(crate) listeners: Vec<OwnedFd>,
    /// Where in `env` there is `LISTEN_PID=0000000000`, for the child to write its pid over: from the
    /// first digit on, with a NUL behind the last one of its own. Padding would not do: to
    /// systemd's `sd_listen_fds` a number that begins with 0 is octal.
    pub(crate) listen_pid: Option<usize>,
    /// Has the port until it is dropped. That is to be right before the program is executed: a port
    /// that was merely found to be free can be given to anybody else meanwhile, also to another
    /// service that is started at this moment.
    pub(crate) reserved: Option<OwnedFd>,
    pub(crate) ready: Probe,
}

impl ServiceCommand {
    /// Finds, opens and binds what a start needs. Blocks, mostly on files.
    ///
    /// Call it under the transition lock, when the instance before is gone, and its port free.
    pub(crate) fn prepare(&self, key: &ServiceKey) -> Result<Prepared> {
        let service = key.name();
        let failed = |what: &str, error: io::Error| {
            let reason = format!("could not {what}: {error}");
            Error::not_started(service, &self.shown(), reason, Some(error))
        };
        let Port {
            port,
            reserved,
            listeners,
        } = self.bind(service)?;
        let fill = |template: &OsStr| template::expand(template, port, key.namespace.dir());
        let dir = self.working_dir(&fill).map_err(|(path, error)| {
            let path = path.display();
            failed(&format!("use its working directory {path}"), error)
        })?;
        let mut env = self.environment(env::vars_os(), &fill);
        let name = fill(&self.program);
        let search = env.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let program = program::find(service, &name, search)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())
            .map_err(|error| failed("open /dev/null", error.into()))?;
        let forbidden = match self.log {
            Some(_) => Forbidden::WritableByOthers,
            None => Forbidden::GroupOrWorld,
        };
        let log = ServiceLog::open(service, self.log_path(key), self.log_limit, forbidden)?;
        let surroundings = Surroundings {
            key,
            port,
            dir: &dir,
            env: &env,
            log: &log,
        };
        let (ready, notify_name) = self.probe(&surroundings)?;
        if let Some(name) = notify_name {
            env.insert("NOTIFY_SOCKET".into(), name);
        }
        if !listeners.is_empty() {
            env.insert("LISTEN_FDS".into(), listeners.len().to_string().into());
            env.insert("LISTEN_FDNAMES".into(), "procref".into());
            env.insert("LISTEN_PID".into(), LISTEN_PID.into());
        }
        let listen_pid = match listeners.is_empty() {
            true => None,
            false => env.keys().position(|name| name == "LISTEN_PID"),
        };
        let c_string = |text: OsString| {
            CString::new(text.into_vec()).map_err(|error| failed("pass a NUL byte", error.into()))
        };
        let mut args = vec![c_string(name)?];
        for arg in &self.args {
            args.push(c_string(fill(arg))?);
        }
        let env = env.into_iter().map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            c_string(variable)
        });
        Ok(Prepared {
            program: c_string(program.into())?,
            args,
            env: env.collect::<Result<_>>()?,
            dir: c_string(dir.into())?,
            port,
            null,
            log,
            listeners,
            listen_pid,
            reserved,
            ready,
        })
    }

    fn bind(&self, service: &str) -> Result<Port> {
        let failed = |error| Error::Port {
            service: service.to_owned(),
            port: self.port.unwrap_or(0),
            source: error,
        };
        if self.socket_activation {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port.unwrap_or(0));
            let listener = TcpListener::bind(address).map_err(failed)?;
            return Ok(Port {
                port: listener.local_addr().map_err(failed)?.port(),
                reserved: None,
                listeners: vec![listener.into()],
            });
        }
        let (port, reserved) = match self.port {
            Some(port) => (port, reserve(port)),
            None if !self.has_port() => return Ok(Port::default()),
            None => match reserve(0) {
                Ok(socket) => (port_of(&socket).map_err(failed)?, Ok(socket)),
                Err(error) => return Err(failed(error.into())),
            },
        };
        match reserved {
            Ok(socket) => Ok(Port {
                port,
                reserved: Some(socket),
                listeners: Vec::new(),
            }),
            // Found only when the program fails to bind it, if at all: its readiness would be asked of
            // whoever listens there, and they would be taken for the service.
            Err(error @ Errno::ADDRINUSE) => Err(failed(error.into())),
            // The program may have a privilege that this process lacks.
            Err(_) => Ok(Port {
                port,
                ..Port::default()
            }),
        }
    }

    /// Its working directory, or the path that is none.
    fn working_dir(
        &self,
        fill: &dyn Fn(&OsStr) -> OsString,
    ) -> Result<PathBuf, (PathBuf, io::Error)> {
        let Some(dir) = &self.current_dir else {
            return env::current_dir().map_err(|error| (PathBuf::from("."), error));
        };
        let dir = PathBuf::from(fill(dir.as_os_str()));
        let absolute = path::absolute(&dir).and_then(|absolute| {
            match std::fs::metadata(&absolute)?.is_dir() {
                true => Ok(absolute),
                false => Err(io::ErrorKind::NotADirectory.into()),
            }
        });
        absolute.map_err(|error| (dir, error))
    }

    pub(super) fn environment(
        &self,
        inherited: impl Iterator<Item = (OsString, OsString)>,
        fill: &dyn Fn(&OsStr) -> OsString,
    ) -> BTreeMap<OsString, OsString> {
        let mut env: BTreeMap<_, _> = match self.env_clear {
            true => BTreeMap::new(),
            false => inherited
                .filter(|(name, _)| !is_for_the_starter(name))
                .collect(),
        };
        for (name, value) in &self.env {
            match value {
                Some(value) => env.insert(name.clone(), fill(value)),
                None => env.remove(name),
            };
        }
        env
    }

    /// What to wait for, and the value of `NOTIFY_SOCKET` where that is a notification.
    fn probe(&self, around: &Surroundings<'_>) -> Result<(Probe, Option<OsString>)> {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, around.port);
        let runtime_dir = around.key.namespace.dir();
        let fill = |template: &OsStr| template::expand(template, around.port, runtime_dir);
        let unusable = |reason: String| Error::InvalidSetting {
            service: around.key.name().to_owned(),
            setting: "ready",
            reason,
        };
        let failed = |error: io::Error| {
            let reason = format!("could not make what tells when it is ready: {error}");
            Error::not_started(around.key.name(), &self.shown(), reason, Some(error))
        };
        let probe = match self.readiness() {
            Kind::Tcp => Probe::Tcp(address),
            Kind::Http(path) => Probe::Http {
                address,
                path: template::expand_http_path(&path, around.port, runtime_dir),
            },
            Kind::Unix(path) => {
                let path = around.dir.join(fill(path.as_os_str()));
                SocketAddrUnix::new(&path).map_err(|_| {
                    let path = path.display();
                    unusable(format!(
                        "{path} is longer than the 107 bytes that a socket's path may have"
                    ))
                })?;
                Probe::Unix(path)
            }
            Kind::Log(pattern) => {
                let pattern = template::expand_pattern(&pattern, around.port, runtime_dir);
                Probe::Log(LogLines {
                    pattern: Regex::new(&pattern).map_err(|error| unusable(error.to_string()))?,
                    file: around.log.file.try_clone().map_err(failed)?,
                    path: around.log.path.clone(),
                    start: around.log.start,
                })
            }
            Kind::Command { program, args } => {
                let name = fill(&program);
                let search = around.env.get(OsStr::new("PATH")).map(OsString::as_os_str);
                Probe::Command(Trial {
                    program: program::find(around.key.name(), &name, search)?,
                    name,
                    args: args.iter().map(|arg| fill(arg)).collect(),
                    env: around.env.clone().into_iter().collect(),
                    dir: around.dir.to_owned(),
                })
            }
            Kind::Notify => {
                let (socket, name) = notify_socket().map_err(failed)?;
                return Ok((Probe::Notify(socket), Some(name)));
            }
            Kind::Callback(callback) => Probe::Callback(callback),
            Kind::AtOnce => Probe::AtOnce,
        };
        Ok((probe, None))
    }
}

#[derive(Default)]
struct Port {
    port: u16,
    reserved: Option<OwnedFd>,
    listeners: Vec<OwnedFd>,
}

/// What a probe is made from, besides the command.
struct Surroundings<'a> {
    key: &'a ServiceKey,
    port: u16,
    dir: &'a Path,
    env: &'a BTreeMap<OsString, OsString>,
    log: &'a ServiceLog,
}

/// A service manager's word to this process. Passed on, the service would say `READY=1` for its
/// starter, or take descriptors for its own that it has not got.
fn is_for_the_starter(name: &OsStr) -> bool {
    let prefixes = [&b"LISTEN_"[..], b"WATCHDOG_"];
    name == "NOTIFY_SOCKET"
        || prefixes
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix))
}

/// A socket that has the port and does not listen: whoever connects is refused, and whoever binds it
/// gets an error.
fn reserve(port: u16) -> Result<OwnedFd, Errno> {
    let (inet, stream) = (AddressFamily::INET, SocketType::STREAM);
    let socket = rustix::net::socket_with(inet, stream, SocketFlags::CLOEXEC, None)?;
    // Connections of an instance before, in TIME_WAIT, do not make a port taken. For a port that the
    // kernel chooses they should: then it looks further.
    if port != 0 {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

/// Lets go of a reserved port.
///
/// The socket may outlive that, in a child that another thread of this process has forked meanwhile. With
/// this option, which is the socket's and not the descriptor's, a server that sets it, too, as most do,
/// can bind the port all the same.
pub(crate) fn release_port(socket: OwnedFd) {
    // Where it is refused, the port is free all the same unless there is such a child.
    let _ = sockopt::set_socket_reuseaddr(&socket, true);
}

fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.port())
}
