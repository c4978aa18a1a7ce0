//! Services that procref starts itself: what to run, and how.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use crate::info::ServiceInfo;
use crate::key::ServiceKey;
use crate::process::KILL_TIMEOUT;
use crate::ready::{Condition, Kind, Ready};
use crate::template;

mod check;
#[cfg(all(unix, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod log;
mod prepare;
#[cfg_attr(windows, path = "command/program/windows.rs")]
mod program;
mod signal;

pub(crate) use log::ServiceLog;
#[cfg(unix)]
pub(crate) use prepare::SupervisedLog;
pub(crate) use prepare::{Prepared, Reserved, release_port};
#[cfg(windows)]
pub(crate) use program::look_up;
pub use signal::StopSignal;

/// How a service is stopped: it is asked by this signal, and killed if it is there after the grace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopPolicy {
    pub(crate) signal: StopSignal,
    pub(crate) grace: Duration,
}

impl StopPolicy {
    /// How long it takes at most. The service's own process gets the grace and is killed, and then the
    /// processes that it has left.
    pub(crate) fn limit(&self) -> Duration {
        self.grace.saturating_add(KILL_TIMEOUT).saturating_mul(2)
    }
}

/// Where a service writes what it has to say, unless it is told otherwise.
pub(crate) fn default_log(key: &ServiceKey) -> PathBuf {
    key.namespace.dir().join(format!("{}.log", key.file_stem()))
}

/// The files of a log in the runtime directory, which are removed with the service.
pub(crate) fn default_logs(key: &ServiceKey) -> [PathBuf; 2] {
    log::files(&default_log(key))
}

/// How long a log may get unless set, in bytes.
const DEFAULT_LOG_LIMIT: u64 = 10 << 20;

/// How long a service may take to say that it is well, unless set.
const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a service is asked whether it is well.
#[derive(Clone, Debug)]
enum Health {
    Asked(Ready),
    /// As it is asked whether it is ready.
    AsReady,
}

/// A program that is the service: what to run, with what, and when it is ready.
///
/// The program must stay in the foreground: when it ends, the service has ended. Its input is
/// `/dev/null`, its output goes to the [log](Self::log). It inherits no other descriptor, and belongs to
/// no terminal.
///
/// # `{port}` and `{dir}`
///
/// In the program, its arguments, values of the environment, the working directory and what
/// [`Ready`] looks for, `{port}` is the service's port and `{dir}` the runtime directory; in the path
/// of the log only `{dir}`. `{{port}}` and `{{dir}}` stand for a literal `{port}` and `{dir}`.
/// All other braces are what they are, so JSON needs no escaping.
///
/// ```
/// use procref::{Ready, ServiceCommand, StopSignal};
///
/// let redis = ServiceCommand::new("redis-server")
///     .args(["--port", "{port}", "--bind", "127.0.0.1", "--dir", "{dir}"])
///     .ready(Ready::tcp())
///     .stop_signal(StopSignal::Int);
///
/// let server = ServiceCommand::new("./my-server")
///     .arg("--verbose")
///     .port(8080)
///     .current_dir("/srv/app")
///     .env("CACHE", "{dir}/cache")
///     .env_remove("RUST_LOG")
///     .log("/srv/app/server.log")
///     .log_limit(1 << 20);
///
/// // Written for systemd: finds its socket as descriptor 3. In an environment of its own.
/// let activated = ServiceCommand::new("/usr/bin/my-daemon")
///     .socket_activation()
///     .env_clear()
///     .env("PATH", "/usr/bin:/bin");
/// ```
#[derive(Clone, Debug)]
#[must_use = "it starts nothing by itself"]
pub struct ServiceCommand {
    program: OsString,
    args: Vec<OsString>,
    env_clear: bool,
    /// `None`: removed.
    env: BTreeMap<OsString, Option<OsString>>,
    current_dir: Option<PathBuf>,
    port: Option<u16>,
    socket_activation: bool,
    ready: Option<Ready>,
    ready_after: Option<Condition>,
    health: Option<Health>,
    health_timeout: Duration,
    stop_signal: StopSignal,
    log: Option<PathBuf>,
    log_limit: u64,
}

impl ServiceCommand {
    /// Runs `program`: a path if it has a `/`, else a name that is looked up in the `PATH` of the
    /// service's environment. A relative path is relative to the starter's working directory.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env_clear: false,
            env: BTreeMap::new(),
            current_dir: None,
            port: None,
            socket_activation: false,
            ready: None,
            ready_after: None,
            health: None,
            health_timeout: DEFAULT_HEALTH_TIMEOUT,
            stop_signal: StopSignal::default(),
            log: None,
            log_limit: DEFAULT_LOG_LIMIT,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
        self
    }

    /// Sets a variable of its environment.
    ///
    /// The rest is inherited from the process that starts the service, which is any of its clients. So
    /// set what the service depends on. Not inherited is what a service manager meant for the
    /// starter: `NOTIFY_SOCKET`, `LISTEN_*` and `WATCHDOG_*`.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.env.insert(name.as_ref().to_owned(), Some(value));
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Inherits no environment, and takes back what was set so far.
    ///
    /// procref itself still sets `PROCREF_STARTING`, by which a program that asks for its own service gets an
    /// error, and what [`socket_activation`](Self::socket_activation) and [`Ready::notify`] need.
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// Its working directory. The starter's unless set, and relative to that.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// The port it listens on. A start fails if anything else listens there on 127.0.0.1.
    ///
    /// Unless set, the kernel chooses a free one at every start if `{port}` stands anywhere or with
    /// [socket activation](Self::socket_activation), and otherwise the service has none. A chosen
    /// port is free until right before the program is executed; should somebody else take it in
    /// the moment that remains, the program cannot bind it, and the start fails with what it said.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Tells when it is ready.
    ///
    /// Unless set that is [`Ready::tcp`] if it has a port and no
    /// [socket activation](Self::socket_activation), and [`Ready::at_once`] otherwise. A service with neither
    /// a port nor this setting starts with a warning, an event of [`tracing`](https://docs.rs/tracing): its
    /// clients may come before it can serve them.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = Some(ready);
        self
    }

    /// Sets a condition that must hold before procref checks whether the service is ready.
    ///
    /// Use it for a program that prepares something and then executes the service's program in its own place. Until
    /// then another process may answer in place of the service. procref checks the condition again and again, at
    /// least every 100 ms, on a thread that it blocks, and the time counts as part of the [start
    /// timeout](crate::SharedServiceBuilder::start_timeout). By default there is no condition.
    ///
    /// ```
    /// use procref::{Ready, ServiceCommand, ServiceInfo};
    ///
    /// let command = ServiceCommand::new("prepare-and-exec")
    ///     .args(["my-server", "--port", "{port}"])
    ///     .ready(Ready::tcp())
    ///     .ready_after(|service: &ServiceInfo| {
    ///         let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", service.pid()));
    ///         command_line.is_ok_and(|line| line.starts_with("my-server"))
    ///     });
    /// ```
    pub fn ready_after<F>(mut self, condition: F) -> Self
    where
        F: Fn(&ServiceInfo) -> bool + Send + Sync + 'static,
    {
        self.ready_after = Some(Condition::new(condition));
        self
    }

    /// The condition that must hold before readiness is checked.
    pub(crate) fn condition(&self) -> Option<Condition> {
        self.ready_after.clone()
    }

    /// Asks the service at every join whether it is well. Not asked unless set: a process that is alive
    /// counts as well.
    ///
    /// The client that joins asks again until the service answers or the [time](Self::health_timeout) is over.
    /// A service that does not answer is recovered as one whose
    /// [`on_health_check`](crate::SharedServiceBuilder::on_health_check) says no: it is stopped and started
    /// anew, also if other clients hold it. Clients that have joined are not asked again, so a service that
    /// fails later is noticed by the next join. If there is an `on_health_check` as well, both must agree.
    ///
    /// Takes [`Ready::tcp`], [`Ready::http`], [`Ready::unix`] and [`Ready::command`]. Others say something
    /// once, or nothing, and are an error at [`build`](crate::SharedServiceBuilder::build).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use procref::{Ready, ServiceCommand};
    ///
    /// let server = ServiceCommand::new("my-server")
    ///     .args(["--port", "{port}"])
    ///     .health(Ready::http("/health"))
    ///     .health_timeout(Duration::from_secs(2));
    /// ```
    pub fn health(mut self, probe: Ready) -> Self {
        self.health = Some(Health::Asked(probe));
        self
    }

    /// Asks the service at every join as it is asked whether it is [ready](Self::ready). See
    /// [`health`](Self::health).
    ///
    /// Not the default: what a service does once, when it is started, may be too much at every join.
    ///
    /// ```
    /// use procref::{Ready, ServiceCommand};
    ///
    /// let database = ServiceCommand::new("postgres")
    ///     .ready(Ready::command("pg_isready", ["--host", "{dir}"]))
    ///     .health_as_ready();
    /// ```
    pub fn health_as_ready(mut self) -> Self {
        self.health = Some(Health::AsReady);
        self
    }

    /// The time in which the service must say that it is well. 5 s unless set.
    ///
    /// Without [`health`](Self::health) or [`health_as_ready`](Self::health_as_ready) it has no effect.
    pub fn health_timeout(mut self, limit: Duration) -> Self {
        self.health_timeout = limit;
        self
    }

    /// The signal that asks it to stop. [`StopSignal::Term`] unless set. What it means on Windows
    /// [is said there](StopSignal). Whatever is left of it after the
    /// [stop timeout](crate::SharedServiceBuilder::stop_timeout) is killed.
    pub fn stop_signal(mut self, signal: StopSignal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The file that gets its output and its errors, created with mode 0600 where it is missing.
    ///
    /// Unless set it is in the runtime directory, named after the service with `.log` at its end, and
    /// removed with the service. One that is set stays. A relative path is relative to the starter's
    /// working directory. The file must be a regular one of this user's, no symbolic link, and not
    /// writable by others.
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// How long the log may get, in bytes. 10 MiB unless set.
    ///
    /// At a start a longer one is renamed to `PATH.1`, replacing that. While the service runs, its supervisor,
    /// or a client that joins, keeps the end of a longer one in `PATH.1` and empties it; lines that are written
    /// right then are lost. The supervisor wakes only while the log grows. Both files together stay below
    /// four times the limit if the service writes at most 10 MB/s and the limit is 1 MiB or more. On Windows
    /// only clients that join do this.
    ///
    /// If the end cannot be kept, because `PATH.1` is a directory say, the log is not emptied; on a full disk
    /// it is emptied, and its end is lost. A log that was deleted is emptied, and one that was renamed is left
    /// alone.
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.log_limit = bytes;
        self
    }

    /// Passes it a socket that listens on 127.0.0.1 and its port already, as systemd does: descriptor 3,
    /// with `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (`procref`) set.
    ///
    /// A chosen port is the service's then without a moment in which somebody else can take it,
    /// and a client that connects early is served as soon as the program accepts.
    pub fn socket_activation(mut self) -> Self {
        self.socket_activation = true;
        self
    }

    pub(crate) fn chosen_stop_signal(&self) -> StopSignal {
        self.stop_signal
    }

    /// Makes room in the log, if it has grown past its limit. Nobody who only wants to join is kept
    /// from that by a log.
    pub(crate) fn rotate_log(&self, key: &ServiceKey) {
        let (service, path) = (key.name(), self.log_path(key));
        match log::rotate_running(service, &path, self.log_limit) {
            Ok(false) => {}
            Ok(true) => tracing::debug!(service, path = %path.display(), "emptied the log"),
            Err(error) => tracing::warn!(service, %error, "could not make room in the log"),
        }
    }

    /// The log's path, the same before, while and after the service runs.
    pub(crate) fn log_path(&self, key: &ServiceKey) -> PathBuf {
        let dir = key.namespace.dir();
        let Some(log) = &self.log else {
            return default_log(key);
        };
        let log = PathBuf::from(template::expand(log.as_os_str(), 0, dir));
        // Without a working directory, opening it will tell.
        path::absolute(&log).unwrap_or(log)
    }

    fn has_port(&self) -> bool {
        self.port.is_some() || self.socket_activation || self.templates().any(template::uses_port)
    }

    /// What tells when it is ready, the default filled in.
    fn readiness(&self) -> Kind {
        match &self.ready {
            Some(ready) => ready.0.clone(),
            None if self.has_port() && !self.socket_activation => Kind::Tcp,
            None => Kind::AtOnce,
        }
    }

    /// What tells whether it is well, if anything does.
    fn health_kind(&self) -> Option<Kind> {
        match self.health.as_ref()? {
            Health::Asked(probe) => Some(probe.0.clone()),
            Health::AsReady => Some(self.readiness()),
        }
    }

    /// Returns `true` if nothing tells when it is ready, and its user has not said that this is right.
    pub(crate) fn lacks_readiness(&self) -> bool {
        self.ready.is_none() && matches!(self.readiness(), Kind::AtOnce) && !self.socket_activation
    }

    /// All in which `{port}` is filled in.
    fn templates(&self) -> impl Iterator<Item = &OsStr> {
        let values = self.env.values().flatten();
        let health = match &self.health {
            Some(Health::Asked(probe)) => Some(probe),
            _ => None,
        };
        let probes = self.ready.iter().chain(health);
        let probes: Vec<&OsStr> = probes.flat_map(|probe| probe.0.templates()).collect();
        std::iter::once(&self.program)
            .chain(&self.args)
            .chain(values)
            .map(OsString::as_os_str)
            .chain(self.current_dir.as_deref().map(Path::as_os_str))
            .chain(probes)
    }

    /// The program and its arguments as they were named, for people.
    pub(crate) fn line(&self) -> Vec<String> {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| template::shown(word)).collect()
    }

    /// The program as it was named, for people.
    pub(crate) fn shown(&self) -> String {
        template::shown(&self.program)
    }
}

#[cfg(all(test, unix))]
mod tests;
