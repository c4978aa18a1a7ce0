//! The description of a program that procref executes as a service.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use procref_supervisor::spec::StopSpec;

use crate::info::ServiceInfo;
use crate::key::ServiceKey;
use crate::ready::{Condition, Kind, Ready};
use crate::template;

mod check;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) mod fuzz;
pub(crate) mod log;
mod prepare;
mod program;
mod signal;

pub(crate) use log::ServiceLog;
#[cfg(target_os = "linux")]
pub(crate) use prepare::SupervisedLog;
pub(crate) use prepare::{Prepared, Reserved, release_port};
pub use signal::StopSignal;

/// How a service is stopped: by this signal, and by `SIGKILL` if it is alive after the grace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopPolicy {
    pub(crate) signal: StopSignal,
    pub(crate) grace: Duration,
}

impl StopPolicy {
    /// The longest time that a stop takes. The main process of the service gets one grace period. After its
    /// exit, the remaining processes get another one.
    pub(crate) fn limit(&self) -> Duration {
        self.spec().limit()
    }

    /// Returns the policy with the number of the signal, for the supervisor.
    pub(crate) fn spec(&self) -> StopSpec {
        StopSpec {
            signal: self.signal.number(),
            grace: self.grace,
        }
    }
}

/// The log of a service for which no other log is set.
pub(crate) fn default_log(key: &ServiceKey) -> PathBuf {
    key.namespace.dir().join(format!("{}.log", key.file_stem()))
}

/// The log of a service whose log is kept after its end.
///
/// The name differs from that of [`default_log`], so each process that removes the files of an instance leaves this log,
/// whatever settings that process has.
pub(crate) fn kept_log(key: &ServiceKey) -> PathBuf {
    let name = format!("{}.kept.log", key.file_stem());
    key.namespace.dir().join(name)
}

/// The log files in the runtime directory, which are removed with the service.
pub(crate) fn default_logs(key: &ServiceKey) -> [PathBuf; 2] {
    log::files(&default_log(key))
}

/// The default size limit of a log, in bytes.
const DEFAULT_LOG_LIMIT: u64 = 10 << 20;

/// The default time limit of a health probe.
const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The health probe of a service.
#[derive(Clone, Debug)]
enum Health {
    Asked(Ready),
    /// The readiness probe.
    AsReady,
}

/// A program that runs as a service: its command line, environment, readiness and log.
///
/// The program must stay in the foreground: the service ends when the program exits. Its standard input is
/// `/dev/null`, and its output goes to the [log](Self::log). The program inherits no other descriptor and has
/// no terminal.
///
/// # `{port}` and `{dir}`
///
/// In the program, its arguments, values of the environment, the working directory and the argument of a
/// [`Ready`] probe, `{port}` stands for the service's port and `{dir}` for the runtime directory. In the path
/// of the log, only `{dir}` is filled in. `{{port}}` and `{{dir}}` stand for a literal `{port}` and `{dir}`.
/// All other braces are literal, so JSON needs no escaping.
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
/// // A program for systemd, which finds its socket as descriptor 3.
/// let activated = ServiceCommand::new("/usr/bin/my-daemon")
///     .socket_activation()
///     .env_clear()
///     .env("PATH", "/usr/bin:/bin");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a command starts nothing by itself"]
pub struct ServiceCommand {
    program: OsString,
    args: Vec<OsString>,
    env_clear: bool,
    /// `None` removes the variable.
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
    keep_log: bool,
    log_limit: u64,
}

impl ServiceCommand {
    /// Describes the service that runs `program`. A `program` with a `/` is a path, relative to the starter's
    /// working directory. Any other `program` is searched in the `PATH` of the service's environment.
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
            keep_log: false,
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

    /// Sets an environment variable of the program.
    ///
    /// The program inherits the other variables from the process that starts the service, which can be any
    /// client. So set all variables that the service depends on. The program does not inherit the variables
    /// of a service manager for the starter: `NOTIFY_SOCKET`, `LISTEN_*` and `WATCHDOG_*`.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.env.insert(name.as_ref().to_owned(), Some(value));
        self
    }

    /// Removes an environment variable of the program.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Inherits no environment variables, and removes those set so far.
    ///
    /// procref still sets `PROCREF_STARTING`, which lets a program that acquires its own service fail at
    /// once, and the variables for [`socket_activation`](Self::socket_activation) and [`Ready::notify`].
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// Sets the working directory, relative to that of the starter. The default is the starter's.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Sets the port that the program listens on. A start fails if another process listens there on
    /// 127.0.0.1.
    ///
    /// By default, the kernel chooses a free port at every start if `{port}` is used anywhere, or if [socket
    /// activation](Self::socket_activation) is set. Otherwise the service has no port. procref keeps a chosen
    /// port until right before the program is executed. If another process takes the port between that moment
    /// and the program's `bind`, the start fails with the program's output.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the readiness probe.
    ///
    /// The default is [`Ready::tcp`] if the service has a port and no [socket
    /// activation](Self::socket_activation), and [`Ready::at_once`] otherwise. A service with neither a port
    /// nor this setting logs a warning by [`tracing`](https://docs.rs/tracing) at its start, because clients
    /// may connect before it can serve them.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = Some(ready);
        self
    }

    /// Sets a condition that must hold before procref checks whether the service is ready.
    ///
    /// Use it for a program that prepares something and then executes the service's program. Before the
    /// condition holds, another process may answer the probe in place of the service. procref checks the
    /// condition at least every 100 ms, on a thread that it blocks. The [start
    /// timeout](crate::SharedServiceBuilder::start_timeout) includes this time. By default there is no
    /// condition.
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

    /// Returns the condition that must hold before readiness is checked.
    pub(crate) fn condition(&self) -> Option<Condition> {
        self.ready_after.clone()
    }

    /// Sets the health probe, which every join runs. By default there is none: a service whose process is
    /// alive is healthy.
    ///
    /// The joining client repeats the probe until the service answers or the [time
    /// limit](Self::health_timeout) expires. A service that does not answer is recovered, as if its
    /// [`on_health_check`](crate::SharedServiceBuilder::on_health_check) had failed. procref stops it and
    /// starts it again, even if other clients hold it. Clients that have joined do not repeat the probe, so
    /// the next join notices a service that fails later. If `on_health_check` is also set, both must succeed.
    ///
    /// Possible probes are [`Ready::tcp`], [`Ready::http`], [`Ready::unix`] and [`Ready::command`]. Other
    /// probes cannot be repeated, so [`build`](crate::SharedServiceBuilder::build) returns an error for them.
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

    /// Uses the [readiness probe](Self::ready) as the health probe. See [`health`](Self::health).
    ///
    /// This is not the default, because a readiness probe may be too expensive for every join.
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

    /// Sets the time limit of the health probe. The default is 5 s.
    ///
    /// Without [`health`](Self::health) or [`health_as_ready`](Self::health_as_ready) it has no effect.
    pub fn health_timeout(mut self, limit: Duration) -> Self {
        self.health_timeout = limit;
        self
    }

    /// Sets the signal that stops the service. The default is [`StopSignal::Term`]. [`StopSignal`] describes
    /// the effect on Windows. Processes of the service that are alive after the [stop
    /// timeout](crate::SharedServiceBuilder::stop_timeout) are killed.
    pub fn stop_signal(mut self, signal: StopSignal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Sets the file for standard output and standard error, which is created with mode 0600 if it is
    /// missing.
    ///
    /// By default the log is in the runtime directory, is named after the service with the extension `.log`,
    /// and is removed with the service. A log that is set here is never removed. A relative path is relative
    /// to the starter's working directory. The path must be a regular file of this user, not a symbolic link,
    /// and not writable by others.
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Keeps the log in the runtime directory after the service has stopped, or has failed to start.
    ///
    /// The next start of the service removes the log of the run before, so there is one log for each service, with an
    /// older part if it exceeded its [limit](Self::log_limit). [`Services::gc`](crate::Services::gc) removes the
    /// logs of services that no process uses. [`SharedService::kept_log`](crate::SharedService::kept_log) returns
    /// the path. This setting has no effect on a log that [`log`](Self::log) sets.
    ///
    /// ```no_run
    /// # fn example() -> procref::Result<()> {
    /// let command = procref::ServiceCommand::new("redis-server").arg("--port={port}").keep_log();
    /// let service = procref::SharedService::builder("redis").command(command).build()?;
    /// let failed = service.acquire_blocking().is_err();
    /// if failed {
    ///     println!("{}", std::fs::read_to_string(service.kept_log()).unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_log(mut self) -> Self {
        self.keep_log = true;
        self
    }

    /// Sets the size limit of the log, in bytes. The default is 10 MiB.
    ///
    /// A start renames a longer log to `PATH.1`, and replaces that file. While the service runs, its
    /// supervisor, or a joining client, copies the end of a longer log to `PATH.1` and truncates the log.
    /// Lines that the service writes at that moment are lost. The supervisor wakes up only while the log
    /// grows. Both files together stay below four times the limit if the service writes at most 10 MB/s and
    /// the limit is 1 MiB or more. On Windows only joining clients truncate the log.
    ///
    /// If the end cannot be copied, for example because `PATH.1` is a directory, the log is not truncated. On
    /// a full disk, the log is truncated, and its end is lost. A deleted log is truncated. A renamed log is
    /// not.
    pub fn log_limit(mut self, bytes: u64) -> Self {
        self.log_limit = bytes;
        self
    }

    /// Passes the program a socket that already listens on 127.0.0.1 and its port, as systemd does: as
    /// descriptor 3, with `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (`procref`) set.
    ///
    /// With this setting, no other process can take a chosen port. An early client is served as soon as the
    /// program accepts connections.
    pub fn socket_activation(mut self) -> Self {
        self.socket_activation = true;
        self
    }

    pub(crate) fn chosen_stop_signal(&self) -> StopSignal {
        self.stop_signal
    }

    /// Truncates the log if it exceeds its limit. A log error must not prevent a join, so this function only
    /// logs the error.
    pub(crate) fn rotate_log(&self, key: &ServiceKey) {
        let (service, path) = (key.name(), self.log_path(key));
        match log::rotate_running(service, &path, self.log_limit) {
            Ok(false) => {}
            Ok(true) => tracing::debug!(service, path = %path.display(), "emptied the log"),
            Err(error) => tracing::warn!(service, %error, "could not make room in the log"),
        }
    }

    /// Returns the path of the log. The path does not depend on whether the service runs.
    pub(crate) fn log_path(&self, key: &ServiceKey) -> PathBuf {
        let dir = key.namespace.dir();
        let Some(log) = &self.log else {
            return match self.keep_log {
                true => kept_log(key),
                false => default_log(key),
            };
        };
        let log = PathBuf::from(template::expand(log.as_os_str(), 0, dir));
        // If there is no working directory, opening the log returns the error.
        path::absolute(&log).unwrap_or(log)
    }

    fn has_port(&self) -> bool {
        self.port.is_some() || self.socket_activation || self.templates().any(template::uses_port)
    }

    /// Returns `true` if the service has a port, or may send one when it is ready.
    fn may_have_port(&self) -> bool {
        self.has_port() || matches!(self.readiness(), Kind::Notify)
    }

    /// Returns the readiness probe, or the default one.
    fn readiness(&self) -> Kind {
        match &self.ready {
            Some(ready) => ready.0.clone(),
            None if self.has_port() && !self.socket_activation => Kind::Tcp,
            None => Kind::AtOnce,
        }
    }

    /// Returns the health probe, if there is one.
    fn health_kind(&self) -> Option<Kind> {
        match self.health.as_ref()? {
            Health::Asked(probe) => Some(probe.0.clone()),
            Health::AsReady => Some(self.readiness()),
        }
    }

    /// Returns `true` if there is no readiness probe and the user has not chosen [`Ready::at_once`].
    pub(crate) fn lacks_readiness(&self) -> bool {
        self.ready.is_none() && matches!(self.readiness(), Kind::AtOnce) && !self.socket_activation
    }

    /// Returns all texts in which `{port}` is filled in.
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

    /// Returns the program and its arguments as given, for messages.
    pub(crate) fn line(&self) -> Vec<String> {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| template::shown(word)).collect()
    }

    /// Returns the program as given, for messages.
    pub(crate) fn shown(&self) -> String {
        template::shown(&self.program)
    }
}

#[cfg(all(test, unix))]
mod tests;
