//! Readiness and health probes of a service that procref executes.

use std::ffi::{OsStr, OsString};
use std::fmt;
#[cfg(windows)]
use std::os::windows::io::OwnedHandle;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::info::ServiceInfo;
use crate::runtime::BoxFuture;
use crate::template;

mod addresses;
mod command_probe;
mod condition;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) mod fuzz;
mod http;
mod lines;
#[cfg(target_os = "linux")]
mod listening;
mod notified;
#[cfg(unix)]
mod notify;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use addresses::Addresses;
pub(crate) use command_probe::CommandProbe;
pub(crate) use condition::Condition;
pub(crate) use lines::LogLines;
pub(crate) use notified::Notified;

#[cfg(unix)]
pub(crate) use notify::NotifySocket;
use sys::{connection, wait};
use wait::{ProbeResult, ReadinessWait, WakeReason};

/// The pause between two probes: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The time limit of one connection or exchange.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The time that a program must live to count as started if it has no other readiness probe.
///
/// A wrong argument ends most programs within milliseconds, including an interpreter.
const SURVIVAL: Duration = Duration::from_millis(100);

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The alarm: a handle that is signaled when the service has exited.
#[cfg(windows)]
pub(crate) type Alarm<'a> = &'a OwnedHandle;
#[cfg(unix)]
pub(crate) use wait::Alarm;

pub(crate) type Callback = Arc<dyn Fn(&ServiceInfo) -> BoxFuture<bool> + Send + Sync>;

/// A readiness probe: the condition under which the program of a [`ServiceCommand`](crate::ServiceCommand) is
/// ready.
///
/// No client uses the service before that. procref repeats the probe, first after 2 ms and then less often,
/// at least every 100 ms. It notices the exit of the program at once. After the [start
/// timeout](crate::SharedServiceBuilder::start_timeout) the start fails with an error that states the missing
/// condition and shows the end of the log.
///
/// `{port}` and `{dir}` are filled in, like in the command's arguments.
///
/// ```
/// use procref::{Ready, ServiceCommand};
///
/// let server = ServiceCommand::new("my-server").args(["--port", "{port}"]);
/// let server = server.ready(Ready::http("/health"));
///
/// // Probes for other services:
/// let accepts = Ready::tcp();
/// let listens = Ready::unix("{dir}/my-server.sock");
/// let logs = Ready::log("^ready to accept connections");
/// let notifies = Ready::notify();
/// let lives = Ready::at_once();
/// ```
#[derive(Clone)]
#[must_use = "pass the probe to `ServiceCommand::ready`"]
pub struct Ready(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Tcp,
    Http(String),
    Unix(PathBuf),
    Log(String),
    Command {
        program: OsString,
        args: Vec<OsString>,
    },
    Notify,
    Callback(Callback),
    AtOnce,
}

impl Ready {
    /// Returns `true` if a text of the probe contains `{port}`. Then procref chooses a free port for a service without a
    /// [`port`](crate::ServiceCommand::port).
    ///
    /// ```
    /// # use procref::Ready;
    /// assert!(Ready::command("nc", ["-z", "localhost", "{port}"]).uses_port());
    /// assert!(!Ready::log("ready").uses_port());
    /// ```
    pub fn uses_port(&self) -> bool {
        self.0.templates().into_iter().any(template::uses_port)
    }

    /// Returns `true` if the service may send its port when it is ready.
    ///
    /// ```
    /// use procref::Ready;
    ///
    /// assert!(Ready::notify().may_send_port());
    /// assert!(!Ready::tcp().may_send_port());
    /// ```
    pub fn may_send_port(&self) -> bool {
        matches!(self.0, Kind::Notify)
    }

    /// The service accepts connections on its port, at 127.0.0.1 or ::1.
    ///
    /// The probe also reaches a service that listens at all addresses. The probe skips ::1 if another process
    /// listens there on the same port when the service starts.
    ///
    /// With [socket activation](crate::ServiceCommand::socket_activation) the kernel accepts connections
    /// before the program does, so use another probe.
    pub fn tcp() -> Self {
        Self(Kind::Tcp)
    }

    /// The service answers `GET path` on its port, at 127.0.0.1 or ::1, with a status from 200 to 399.
    ///
    /// The path begins with `/`. The answer must begin within a second.
    pub fn http(path: impl Into<String>) -> Self {
        Self(Kind::Http(path.into()))
    }

    /// The service accepts connections on a Unix stream socket.
    ///
    /// A relative path is relative to the service's working directory. Paths of sockets are at most 107 bytes
    /// long. On Windows, the path is that of a named pipe (`\\.\pipe\NAME`). The connection briefly uses one
    /// of the pipe's instances.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Unix(path.into()))
    }

    /// A line of the output since this start matches a regular expression, anywhere in the line unless the
    /// expression is anchored.
    ///
    /// The syntax is that of the [`regex-lite`](https://docs.rs/regex-lite) crate. Only complete lines count,
    /// so a program must not buffer its output.
    pub fn log(pattern: impl Into<String>) -> Self {
        Self(Kind::Log(pattern.into()))
    }

    /// Another program, run in the service's environment and working directory, exits with status 0.
    ///
    /// procref runs the program again until it succeeds. The program gets no input, and on Unix the error
    /// about a start that takes too long contains the last lines of its output. A run that takes longer than 10 s, or than the remaining start timeout, is killed with its
    /// process group.
    ///
    /// ```
    /// use procref::Ready;
    ///
    /// let ready = Ready::command("pg_isready", ["--host", "{dir}"]);
    /// ```
    pub fn command<I>(program: impl AsRef<OsStr>, args: I) -> Self
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        Self(Kind::Command {
            program: program.as_ref().to_owned(),
            args: args
                .into_iter()
                .map(|arg| arg.as_ref().to_owned())
                .collect(),
        })
    }

    /// The service sends `READY=1` to the socket in `$NOTIFY_SOCKET`, as
    /// [`sd_notify`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html) does.
    ///
    /// Any process of this user, or of root, may send it. On Windows this is an error at
    /// [`build`](crate::SharedServiceBuilder::build).
    ///
    /// # The port and metadata
    ///
    /// The service may send two kinds of variables in the same message, or in an earlier one:
    ///
    /// - `PROCREF_PORT=N` sets the port that every client gets. So a service can bind port 0, and report the port
    ///   that the kernel has chosen. It replaces a [port](crate::ServiceCommand::port) that procref has chosen.
    /// - `PROCREF_META_key=value` sets the [metadata](ServiceInfo::get_metadata) `key` for every client. A key
    ///   consists of ASCII letters, digits and `_`. A value is one line of UTF-8.
    ///
    /// The values are recorded before any client uses the service, so all clients get the same ones. In a later
    /// message before `READY=1`, a value replaces the earlier value of the same variable. procref reads no message
    /// after `READY=1`: the values of an instance never change.
    ///
    /// The start fails with [`Error::Notification`](crate::Error::Notification) if a port is not from 1 to 65535,
    /// if a key or value has another form, if a message contains one variable twice or is longer than 64 KiB, or if
    /// all metadata is larger than 1 MiB.
    ///
    /// ```standalone_crate
    /// # #[cfg(windows)]
    /// # fn main() {}
    /// # #[cfg(unix)] mod unix {
    /// use std::env;
    /// use std::net::TcpListener;
    /// use std::os::linux::net::SocketAddrExt as _;
    /// use std::os::unix::net::{SocketAddr, UnixDatagram};
    ///
    /// use procref::{Ready, ServiceCommand, SharedService};
    ///
    /// /// The service: an ordinary program that does not use procref.
    /// fn serve() -> procref::Result<()> {
    ///     let listener = TcpListener::bind(("127.0.0.1", 0))?;
    ///     let port = listener.local_addr()?.port();
    ///     let name = env::var("NOTIFY_SOCKET").map_err(|error| error.to_string())?;
    ///     let address = SocketAddr::from_abstract_name(name.trim_start_matches('@'))?;
    ///     let message = format!("PROCREF_PORT={port}\nPROCREF_META_token=secret\nREADY=1");
    ///     UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    ///     listener.incoming().for_each(drop);
    ///     Ok(())
    /// }
    ///
    /// # pub
    /// fn main() -> procref::Result<()> {
    ///     if env::args().nth(1).as_deref() == Some("serve") {
    ///         return serve();
    ///     }
    ///     let server = ServiceCommand::new(env::current_exe()?).arg("serve").ready(Ready::notify());
    ///     let service = SharedService::builder("notifying-server").command(server);
    /// #   let dir = tempfile::tempdir()?;
    /// #   let service = service.base_dir(dir.path());
    ///     let handle = service.build()?.acquire_blocking()?;
    ///     assert_ne!(handle.port(), 0);
    ///     assert_eq!(handle.info().get_metadata("token"), Some("secret"));
    ///     handle.release_blocking()
    /// }
    /// # }
    /// # #[cfg(unix)]
    /// # fn main() -> procref::Result<()> { unix::main() }
    /// ```
    pub fn notify() -> Self {
        Self(Kind::Notify)
    }

    /// A callback returns `true`. procref calls it repeatedly until then.
    ///
    /// ```
    /// use procref::{Ready, ServiceInfo};
    ///
    /// # async fn ping(port: u16) -> bool { true }
    /// let ready = Ready::callback(|info: &ServiceInfo| {
    ///     let port = info.port();
    ///     async move { ping(port).await }
    /// });
    /// ```
    pub fn callback<F, Fut>(callback: F) -> Self
    where
        F: Fn(&ServiceInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self(Kind::Callback(Arc::new(move |info| {
            Box::pin(callback(info))
        })))
    }

    /// The program has been executed and was still alive 100 ms later.
    ///
    /// This means nothing else about the service. If the program exits within that time, for example because
    /// of a wrong argument, the start fails, and the error shows the exit status and the end of the log.
    pub fn at_once() -> Self {
        Self(Kind::AtOnce)
    }
}

impl Kind {
    /// Returns all texts in which `{port}` is filled in.
    pub(crate) fn templates(&self) -> Vec<&OsStr> {
        match self {
            Self::Http(text) | Self::Log(text) => vec![OsStr::new(text)],
            Self::Unix(path) => vec![path.as_os_str()],
            Self::Command { program, args } => {
                let words = std::iter::once(program).chain(args);
                words.map(OsString::as_os_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns `true` if the probe can be repeated after the start.
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(
            self,
            Self::Tcp | Self::Http(_) | Self::Unix(_) | Self::Command { .. }
        )
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp => f.write_str("Tcp"),
            Kind::Http(path) => f.debug_tuple("Http").field(path).finish(),
            Kind::Unix(path) => f.debug_tuple("Unix").field(path).finish(),
            Kind::Log(pattern) => f.debug_tuple("Log").field(pattern).finish(),
            Kind::Command { program, args } => f
                .debug_struct("Command")
                .field("program", program)
                .field("args", args)
                .finish(),
            Kind::Notify => f.write_str("Notify"),
            Kind::Callback(_) => f.write_str("Callback"),
            Kind::AtOnce => f.write_str("AtOnce"),
        }
    }
}

/// The result of waiting for readiness.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The service is ready, and sent these values.
    Ready(Notified),
    /// The service has exited, or the start was cancelled.
    Alarm,
    /// The deadline has passed.
    Late {
        waiting_for: String,
        /// The result of the last probe.
        last: String,
    },
    /// The service sent something that cannot be used, with the reason.
    #[cfg_attr(
        windows,
        expect(dead_code, reason = "Windows has no notification socket")
    )]
    Invalid(String),
    /// The probe itself cannot work.
    Unusable { waiting_for: String, why: String },
}

/// The state that a probe keeps between its repetitions.
#[derive(Default)]
struct Progress {
    lines: lines::Reading,
    notified: Notified,
}

/// A [`Ready`] for one start, with all placeholders filled in.
pub(crate) enum Probe {
    Tcp(Addresses),
    Http {
        addresses: Addresses,
        path: String,
    },
    Unix(PathBuf),
    Log(LogLines),
    Command(CommandProbe),
    #[cfg(unix)]
    Notify(NotifySocket),
    Callback(Callback),
    AtOnce,
}

impl Probe {
    /// Waits until the service is ready, the alarm is raised, or the deadline has passed. Blocks the thread.
    ///
    /// This does not call a [callback](Self::callback), whose future needs a runtime. It returns at once for
    /// a callback.
    pub(crate) fn wait(&self, alarm: Alarm<'_>, deadline: Instant, service: &str) -> Waited {
        let begun = Instant::now();
        tracing::debug!(service, waiting_for = %self, "waiting for readiness");
        let waited = self.probe_until(&ReadinessWait::new(alarm, deadline), service);
        let elapsed = begun.elapsed();
        match &waited {
            Waited::Ready(_) => tracing::debug!(service, ?elapsed, "the service is ready"),
            Waited::Alarm => {
                tracing::debug!(service, ?elapsed, "the service exited before it was ready")
            }
            Waited::Late { last, .. } => {
                tracing::debug!(service, ?elapsed, last, "the service was not ready in time");
            }
            Waited::Invalid(why) => {
                tracing::debug!(
                    service,
                    ?elapsed,
                    why,
                    "the service sent an invalid notification"
                );
            }
            Waited::Unusable { why, .. } => {
                tracing::debug!(service, ?elapsed, why, "the readiness probe cannot work");
            }
        }
        waited
    }

    /// Repeats the health probe until the service answers or the time limit expires. Returns the last result
    /// in that case. Blocks the thread.
    pub(crate) fn ask(&self, limit: Duration, service: &str) -> Result<(), String> {
        let now = Instant::now();
        // An instant that the clock cannot represent is far enough away.
        let end = now.checked_add(limit).unwrap_or(now + A_YEAR);
        match self.probe_until(&ReadinessWait::patient(end), service) {
            Waited::Ready(_) => Ok(()),
            // This wait has no alarm.
            Waited::Alarm => Err("the service exited".to_owned()),
            Waited::Late { last, .. } => Err(last),
            Waited::Invalid(why) | Waited::Unusable { why, .. } => Err(why),
        }
    }

    /// Returns the callback, if the probe is one.
    pub(crate) fn callback(&self) -> Option<Callback> {
        match self {
            Self::Callback(callback) => Some(Arc::clone(callback)),
            _ => None,
        }
    }

    fn probe_until(&self, watch: &ReadinessWait<'_>, service: &str) -> Waited {
        let mut progress = Progress::default();
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        loop {
            // This check comes before each probe, because another process may answer if the service is dead.
            if watch.has_alarm() {
                return Waited::Alarm;
            }
            let found = match self.probe(watch, &mut progress, service) {
                ProbeResult::Ready => return Waited::Ready(progress.notified),
                ProbeResult::Alarm => return Waited::Alarm,
                ProbeResult::NotYet(found) => found,
                #[cfg(unix)]
                ProbeResult::Invalid(why) => return Waited::Invalid(why),
                ProbeResult::Unusable(why) => {
                    let waiting_for = self.to_string();
                    return Waited::Unusable { waiting_for, why };
                }
            };
            if watch.is_over() {
                // The result of an interrupted probe says less than the previous result.
                let last = last.unwrap_or(found) + &self.other_listeners();
                return Waited::Late {
                    waiting_for: self.to_string(),
                    last,
                };
            }
            last = Some(found);
            watch.at_most(pause).rest();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Returns additional findings about a service that was not ready in time.
    fn other_listeners(&self) -> String {
        match self {
            Self::Tcp(addresses) | Self::Http { addresses, .. } => addresses.other_listeners(),
            _ => String::new(),
        }
    }

    #[cfg_attr(
        windows,
        expect(unused_variables, reason = "only a notification has a status text")
    )]
    fn probe(
        &self,
        watch: &ReadinessWait<'_>,
        progress: &mut Progress,
        service: &str,
    ) -> ProbeResult {
        match self {
            Self::Tcp(addresses) => addresses.probe(watch, connection::accepts_tcp),
            Self::Http { addresses, path } => {
                addresses.probe(watch, |address, watch| http::probe(address, path, watch))
            }
            Self::Unix(path) => connection::accepts_unix(path, &watch.one_attempt(Duration::ZERO)),
            Self::Log(log) => log.probe(&mut progress.lines, watch),
            Self::Command(trial) => trial.run(watch),
            #[cfg(unix)]
            Self::Notify(socket) => notify::listen(socket, watch, service, &mut progress.notified),
            Self::Callback(_) => ProbeResult::Ready,
            // A wait with a deadline. It ends early only if the service exits.
            Self::AtOnce => match watch.at_most(SURVIVAL).rest() {
                WakeReason::Alarm => ProbeResult::Alarm,
                _ => ProbeResult::Ready,
            },
        }
    }
}

/// The readiness condition, for messages.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addresses) => write!(f, "TCP on {addresses}"),
            Self::Http { addresses, path } => write!(f, "HTTP GET {path} on {addresses}"),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "the Unix socket {}", path.display()),
            #[cfg(windows)]
            Self::Unix(path) => write!(f, "the named pipe {}", path.display()),
            Self::Log(log) => write!(f, "{log}"),
            Self::Command(trial) => write!(f, "{trial}"),
            #[cfg(unix)]
            Self::Notify(_) => f.write_str("READY=1 on its NOTIFY_SOCKET"),
            Self::Callback(_) => f.write_str("the readiness callback to return true"),
            Self::AtOnce => f.write_str("nothing"),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
