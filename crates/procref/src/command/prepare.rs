//! Prepares everything that a start needs. This happens before the fork, because the child must not allocate.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use regex_lite::Regex;

use super::log::{self, Forbidden, ServiceLog};
use super::{ServiceCommand, program};
use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::ready::{Addresses, CommandProbe, Kind, LogLines, Probe};
use crate::template;

#[cfg(unix)]
mod sockets;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

#[cfg(target_os = "linux")]
pub(crate) use sys::SupervisedLog;
pub(crate) use sys::{Prepared, Reserved, release_port};

/// The parts of a prepared program.
struct Parts {
    /// The absolute path of the program.
    program: PathBuf,
    /// The program as given.
    #[cfg(unix)]
    name: OsString,
    /// The program and its arguments as given.
    #[cfg(unix)]
    line: Vec<String>,
    /// The size limit of the log, in bytes.
    #[cfg(unix)]
    log_limit: u64,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    /// The absolute path of the working directory.
    dir: PathBuf,
    port: Port,
    log: ServiceLog,
    ready: Probe,
}

impl ServiceCommand {
    /// Finds the program, opens the files and binds the sockets that a start needs. Blocks, mostly on files.
    ///
    /// Call this with the transition lock held, after the previous instance has exited and its port is free.
    pub(crate) fn prepare(&self, key: &ServiceKey) -> Result<Prepared> {
        let service = key.name();
        let failed = |what: &str, error: io::Error| {
            let reason = format!("could not {what}: {error}");
            Error::not_started(service, &self.shown(), reason, Some(error))
        };
        #[cfg(unix)]
        sockets::remove_stale(service, key.namespace.dir());
        let bound = self.bind(service)?;
        let port = bound.number;
        let fill = |template: &OsStr| template::expand(template, port, key.namespace.dir());
        let dir = self.working_dir(&fill).map_err(|(path, error)| {
            let path = path.display();
            failed(&format!("use its working directory {path}"), error)
        })?;
        let mut env = self.environment(env::vars_os(), &fill);
        let name = fill(&self.program);
        let search = search_path(&env);
        let program = program::find(service, &name, search)?;
        let forbidden = match self.log {
            Some(_) => Forbidden::WritableByOthers,
            None => Forbidden::GroupOrWorld,
        };
        if self.log.is_none() && self.keep_log {
            log::remove(service, &self.log_path(key))?;
        }
        let log = ServiceLog::open(service, self.log_path(key), self.log_limit, forbidden)?;
        let surroundings = Surroundings {
            key,
            port,
            addresses: bound.addresses.as_ref(),
            dir: &dir,
            env: &env,
            log: Some(&log),
        };
        let (ready, notify_name) = self.probe("ready", self.readiness(), &surroundings)?;
        if let Some(name) = notify_name {
            env.insert("NOTIFY_SOCKET".into(), name);
        }
        let args = self.args.iter().map(|arg| fill(arg)).collect();
        let parts = Parts {
            program,
            #[cfg(unix)]
            name,
            #[cfg(unix)]
            line: self.line(),
            #[cfg(unix)]
            log_limit: self.log_limit,
            args,
            env,
            dir,
            port: bound,
            log,
            ready,
        };
        parts
            .prepared()
            .map_err(|(what, error)| failed(what, error))
    }

    fn bind(&self, service: &str) -> Result<Port> {
        let failed = |error| Error::Port {
            service: service.to_owned(),
            port: self.port.unwrap_or(0),
            source: error,
        };
        if self.socket_activation {
            return sys::listen(self.port.unwrap_or(0)).map_err(failed);
        }
        match self.port {
            Some(port) => reserve_fixed(port).map_err(failed),
            None if !self.has_port() => Ok(Port::default()),
            None => reserve_free().map_err(failed),
        }
    }

    /// Returns the working directory, or the path that is not a directory.
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
            // On Windows `Path` and `PATH` are one variable.
            if cfg!(windows) {
                env.retain(|known, _| !known.eq_ignore_ascii_case(name));
            }
            match value {
                Some(value) => env.insert(name.clone(), fill(value)),
                None => env.remove(name),
            };
        }
        env
    }

    /// Returns the health probe and its time limit, or `None` if there is no probe.
    ///
    /// The program of a command probe gets the environment of this process, not that of the service's
    /// starter.
    pub(crate) fn health_probe(
        &self,
        key: &ServiceKey,
        port: u16,
    ) -> Result<Option<(Probe, Duration)>> {
        let Some(kind) = self.health_kind() else {
            return Ok(None);
        };
        if port == 0 && matches!(kind, Kind::Tcp | Kind::Http(_)) {
            return Err(Error::InvalidSetting {
                service: key.name().to_owned(),
                setting: "health",
                reason: "the probe needs a port, and the service sent no `PROCREF_PORT` with `READY=1` (send it, or \
                         set a port)"
                    .to_owned(),
            });
        }
        let fill = |template: &OsStr| template::expand(template, port, key.namespace.dir());
        let dir = self.working_dir(&fill).map_err(|(path, error)| {
            let path = path.display();
            let reason = format!("could not use the working directory {path}: {error}");
            Error::InvalidSetting {
                service: key.name().to_owned(),
                setting: "health",
                reason,
            }
        })?;
        let around = Surroundings {
            key,
            port,
            addresses: None,
            dir: &dir,
            env: &self.environment(env::vars_os(), &fill),
            log: None,
        };
        let (probe, _) = self.probe("health", kind, &around)?;
        Ok(Some((probe, self.health_timeout)))
    }

    /// Returns the probe, and the value of `NOTIFY_SOCKET` for a notification.
    fn probe(
        &self,
        setting: &'static str,
        kind: Kind,
        around: &Surroundings<'_>,
    ) -> Result<(Probe, Option<OsString>)> {
        let both = || Addresses::both(around.port);
        let addresses = || around.addresses.cloned().unwrap_or_else(both);
        let runtime_dir = around.key.namespace.dir();
        let fill = |template: &OsStr| template::expand(template, around.port, runtime_dir);
        let unusable = |reason: String| Error::InvalidSetting {
            service: around.key.name().to_owned(),
            setting,
            reason,
        };
        let failed = |error: io::Error| {
            let reason = format!("could not create the notification socket: {error}");
            Error::not_started(around.key.name(), &self.shown(), reason, Some(error))
        };
        let probe = match kind {
            Kind::Tcp => Probe::Tcp(addresses()),
            Kind::Http(path) => Probe::Http {
                addresses: addresses(),
                path: template::expand_http_path(&path, around.port, runtime_dir),
            },
            Kind::Unix(path) => {
                let path = around.dir.join(fill(path.as_os_str()));
                sys::check_socket_path(&path).map_err(unusable)?;
                Probe::Unix(path)
            }
            Kind::Log(pattern) => {
                let pattern = template::expand_pattern(&pattern, around.port, runtime_dir);
                let Some(log) = around.log else {
                    return Err(unusable("the log cannot be probed again".to_owned()));
                };
                Probe::Log(LogLines {
                    pattern: Regex::new(&pattern).map_err(|error| unusable(error.to_string()))?,
                    file: log.file.try_clone().map_err(failed)?,
                    path: log.path.clone(),
                    start: log.start,
                    rotated: log.rotated.clone(),
                })
            }
            Kind::Command { program, args } => {
                let name = fill(&program);
                let search = search_path(around.env);
                // Without this prefix, the error would refer to the service's own program.
                let program = program::find(around.key.name(), &name, search).map_err(|error| {
                    let shown = name.to_string_lossy();
                    match error {
                        Error::Exec { reason, .. } => unusable(format!(
                            "could not find the program of the probe, `{shown}`: {reason}"
                        )),
                        error => error,
                    }
                })?;
                Probe::Command(CommandProbe {
                    program,
                    name,
                    args: args.iter().map(|arg| fill(arg)).collect(),
                    env: around.env.clone().into_iter().collect(),
                    dir: around.dir.to_owned(),
                })
            }
            #[cfg(unix)]
            Kind::Notify => {
                let (socket, name) = crate::ready::NotifySocket::new().map_err(failed)?;
                return Ok((Probe::Notify(socket), Some(name)));
            }
            // `build` rejects this.
            #[cfg(windows)]
            Kind::Notify => return Err(failed(io::ErrorKind::Unsupported.into())),
            Kind::Callback(callback) => Probe::Callback(callback),
            Kind::AtOnce => Probe::AtOnce,
        };
        Ok((probe, None))
    }
}

#[derive(Default)]
struct Port {
    /// The port, or 0 if there is none.
    number: u16,
    /// The addresses that the readiness probe connects to.
    addresses: Option<Addresses>,
    /// Sockets that keep the port until they are dropped.
    reserved: Reserved,
    /// Sockets that the service inherits.
    #[cfg(unix)]
    listeners: Vec<std::os::fd::OwnedFd>,
}

impl Port {
    fn reserved(number: u16, addresses: Addresses, reserved: Reserved) -> Self {
        Self {
            number,
            addresses: Some(addresses),
            reserved,
            #[cfg(unix)]
            listeners: Vec::new(),
        }
    }
}

/// Reserves a fixed port.
fn reserve_fixed(number: u16) -> io::Result<Port> {
    let v4 = sys::reserve((Ipv4Addr::LOCALHOST, number).into());
    // If a taken port were found later, the readiness probe would reach the other process, and procref would
    // treat that process as the service.
    if let Err(error) = &v4 {
        if error.kind() == io::ErrorKind::AddrInUse {
            return v4.map(|_| Port::default());
        }
    }
    let v6 = sys::reserve((Ipv6Addr::LOCALHOST, number).into());
    // Another process may listen at ::1, and the service only at 127.0.0.1. Then ::1 is not probed.
    let addresses = match &v6 {
        Err(error) if is_not_ours(error) => Addresses::v4(number),
        _ => Addresses::both(number),
    };
    // After any other error the program may still bind the port, because it may have a privilege that this
    // process lacks.
    let reserved = v4.into_iter().chain(v6).collect();
    Ok(Port::reserved(number, addresses, reserved))
}

/// Chooses a port that is free at both loopback addresses, and reserves it at both.
fn reserve_free() -> io::Result<Port> {
    /// The largest number of ports to try that are free at 127.0.0.1 and taken at ::1.
    const ATTEMPTS: usize = 64;
    let mut taken = Vec::new();
    for _ in 0..ATTEMPTS {
        let v4 = sys::reserve((Ipv4Addr::LOCALHOST, 0).into())?;
        let number = sys::port_of(&v4)?;
        let v6 = sys::reserve_alone((Ipv6Addr::LOCALHOST, number).into());
        if let Err(error) = &v6 {
            if error.kind() == io::ErrorKind::AddrInUse {
                // Keep the port until another one is found, so that the kernel does not choose it again.
                taken.push(v4);
                continue;
            }
        }
        let addresses = match v6 {
            Ok(_) => Addresses::both(number),
            // The machine has no IPv6.
            Err(_) => Addresses::v4(number),
        };
        let reserved = [v4].into_iter().chain(v6).collect();
        return Ok(Port::reserved(number, addresses, reserved));
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Returns `true` if the service cannot listen at this address: another process listens there, or the machine
/// does not have the address.
fn is_not_ours(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    ) || sys::has_no_family(error)
}

/// The data that a probe needs in addition to the command.
struct Surroundings<'a> {
    key: &'a ServiceKey,
    port: u16,
    addresses: Option<&'a Addresses>,
    dir: &'a Path,
    env: &'a BTreeMap<OsString, OsString>,
    /// The log, for a probe that searches it.
    log: Option<&'a ServiceLog>,
}

fn search_path(env: &BTreeMap<OsString, OsString>) -> Option<&OsStr> {
    let is_path = |name: &OsStr| match cfg!(windows) {
        true => name.eq_ignore_ascii_case("PATH"),
        false => name == "PATH",
    };
    let mut found = env.iter().filter(|(name, _)| is_path(name));
    found.next().map(|(_, value)| value.as_os_str())
}

/// Returns `true` for variables that a service manager set for this process. A service that inherited them
/// would send `READY=1` on behalf of its starter, or use descriptors that it does not have.
fn is_for_the_starter(name: &OsStr) -> bool {
    let prefixes = [&b"LISTEN_"[..], b"WATCHDOG_"];
    name == "NOTIFY_SOCKET"
        || prefixes
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix))
}
