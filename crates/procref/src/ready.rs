//! When a service that procref started is ready, and waiting for that.

use std::ffi::{OsStr, OsString};
use std::fmt;
#[cfg(unix)]
use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(windows)]
use std::os::windows::io::OwnedHandle;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::info::ServiceInfo;
use crate::runtime::BoxFuture;

mod addresses;
mod command_probe;
#[cfg(all(unix, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod http;
mod lines;
#[cfg(unix)]
mod listening;
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
pub(crate) use command_probe::Trial;
pub(crate) use lines::LogLines;

#[cfg(unix)]
pub(crate) use notify::socket as notify_socket;
use sys::{connection, wait};
use wait::{Found, Watch, Woken};

/// How long after a look the next one comes: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How long one connection or exchange may take.
const ATTEMPT: Duration = Duration::from_secs(1);

/// How long a program must live to count as started, if nothing else tells that it is ready.
///
/// A wrong argument ends most programs within milliseconds, an interpreter included.
const SURVIVAL: Duration = Duration::from_millis(100);

const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Tells, by being readable, hung up or signalled, that the service has ended.
#[cfg(unix)]
pub(crate) type Alarm<'a> = BorrowedFd<'a>;
#[cfg(windows)]
pub(crate) type Alarm<'a> = &'a OwnedHandle;

pub(crate) type Callback = Arc<dyn Fn(&ServiceInfo) -> BoxFuture<bool> + Send + Sync>;

/// Tells when the program of a [`ServiceCommand`](crate::ServiceCommand) is ready to be used.
///
/// Nobody is let in before. procref looks again and again, first after 2 ms, then less often, at
/// least every 100 ms; it notices at once when the program ends; and after the [start
/// timeout](crate::SharedServiceBuilder::start_timeout) the start has failed, with an error that says
/// what was missing and shows the end of the log.
///
/// `{port}` and `{dir}` are filled in as in the command's arguments.
///
/// ```
/// use procref::{Ready, ServiceCommand};
///
/// let server = ServiceCommand::new("my-server").args(["--port", "{port}"]);
/// let server = server.ready(Ready::http("/health"));
///
/// // What other services give to go by:
/// let accepts = Ready::tcp();
/// let listens = Ready::unix("{dir}/my-server.sock");
/// let says_so = Ready::log("^ready to accept connections");
/// let notifies = Ready::notify();
/// let is_ready_anyway = Ready::at_once();
/// ```
#[derive(Clone)]
#[must_use = "it is for `ServiceCommand::ready`"]
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
    /// When it accepts connections on its port, at 127.0.0.1 or ::1.
    ///
    /// A service that listens at all addresses is asked there, too. ::1 is left out if another process
    /// listens there on that port when the service is started.
    ///
    /// With [socket activation](crate::ServiceCommand::socket_activation) that is always so: the
    /// kernel accepts before the program does. Ask for something else there.
    pub fn tcp() -> Self {
        Self(Kind::Tcp)
    }

    /// When it answers `GET path` on its port, at 127.0.0.1 or ::1, with a status from 200 to 399.
    ///
    /// The path begins with `/`. The answer has to begin within a second.
    pub fn http(path: impl Into<String>) -> Self {
        Self(Kind::Http(path.into()))
    }

    /// When it accepts connections on a Unix stream socket.
    ///
    /// A relative path is relative to the service's working directory. Paths of sockets are at most
    /// 107 bytes long. On Windows it is the path of a named pipe instead (`\\.\pipe\NAME`), and the
    /// connection takes up one of its instances for a moment.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Unix(path.into()))
    }

    /// When a line of its output since this start matches a regular expression, anywhere in the line
    /// unless it is anchored.
    ///
    /// The syntax is that of the [`regex-lite`](https://docs.rs/regex-lite) crate. A line counts once
    /// it has its end; a program that buffers its output must be told not to.
    pub fn log(pattern: impl Into<String>) -> Self {
        Self(Kind::Log(pattern.into()))
    }

    /// When another program exits with status 0, in the service's environment and working directory.
    ///
    /// It is run again until it does, with no input, its output thrown away. A run that takes
    /// longer than 10 s, or than is left of the start timeout, is killed, with its process group.
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

    /// When it says so itself: `READY=1` to the socket that `$NOTIFY_SOCKET` names, as
    /// [`sd_notify`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html) does.
    ///
    /// Any process of this user, or of root, may send it. Not on Windows, where it is an error at
    /// [`build`](crate::SharedServiceBuilder::build).
    pub fn notify() -> Self {
        Self(Kind::Notify)
    }

    /// When a callback says so. It is asked again until it does.
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

    /// When the program has been executed and was still alive 100 ms later.
    ///
    /// Nothing is known then of what the program does. A program that ends within that time, of a wrong
    /// argument say, has not started: the error shows its exit status and the end of its log.
    pub fn at_once() -> Self {
        Self(Kind::AtOnce)
    }
}

/// What must hold before a service is asked whether it is ready.
#[derive(Clone)]
pub(crate) struct Condition(Arc<dyn Fn(&ServiceInfo) -> bool + Send + Sync>);

impl Condition {
    pub(crate) fn new(holds: impl Fn(&ServiceInfo) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Waits until the condition holds, the alarm is readable or hung up, or the deadline has passed. Blocks the
    /// thread.
    pub(crate) fn wait(&self, info: &ServiceInfo, alarm: Alarm<'_>, deadline: Instant) -> Waited {
        let watch = Watch::new(alarm, deadline);
        let mut pause = FIRST_PAUSE;
        while !(self.0)(info) {
            if watch.has_alarm() {
                return Waited::Alarm;
            }
            if watch.is_over() {
                return Waited::Late {
                    waiting_for: "its program to be executed".to_owned(),
                    last: "it was not yet".to_owned(),
                };
            }
            watch.at_most(pause).rest();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Waited::Ready
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}

impl Kind {
    /// All in which `{port}` is filled in.
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

    /// Returns `true` if a service that is ready can be asked again.
    pub(crate) fn is_question(&self) -> bool {
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

/// How waiting for readiness ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Ready,
    /// The service died, or who starts it is to give up.
    Alarm,
    /// The deadline has passed.
    Late {
        waiting_for: String,
        /// What the last look found.
        last: String,
    },
    /// The probe itself cannot work.
    Unusable {
        waiting_for: String,
        why: String,
    },
}

/// A [`Ready`] for one start, with everything filled in.
pub(crate) enum Probe {
    Tcp(Addresses),
    Http {
        addresses: Addresses,
        path: String,
    },
    Unix(PathBuf),
    Log(LogLines),
    Command(Trial),
    #[cfg(unix)]
    Notify(OwnedFd),
    Callback(Callback),
    AtOnce,
}

impl Probe {
    /// Waits until the service is ready, the alarm is readable or hung up, or the deadline has
    /// passed. Blocks the thread.
    ///
    /// A [callback](Self::callback) is not asked here, because it needs who polls its future: its
    /// part of the wait is over at once.
    pub(crate) fn wait(&self, alarm: Alarm<'_>, deadline: Instant, service: &str) -> Waited {
        let begun = Instant::now();
        tracing::debug!(service, waiting_for = %self, "waiting until it is ready");
        let waited = self.look_until(&Watch::new(alarm, deadline), service);
        let elapsed = begun.elapsed();
        match &waited {
            Waited::Ready => tracing::debug!(service, ?elapsed, "it is ready"),
            Waited::Alarm => tracing::debug!(service, ?elapsed, "it ended before it was ready"),
            Waited::Late { last, .. } => {
                tracing::debug!(service, ?elapsed, last, "it was not ready in time");
            }
            Waited::Unusable { why, .. } => {
                tracing::debug!(service, ?elapsed, why, "its readiness cannot be asked for");
            }
        }
        waited
    }

    /// Asks a service whether it is well, again and again until it answers or the time is over; returns the
    /// last answer then. Blocks the thread.
    pub(crate) fn ask(&self, limit: Duration, service: &str) -> Result<(), String> {
        let now = Instant::now();
        // What the clock cannot tell is far enough away.
        let end = now.checked_add(limit).unwrap_or(now + A_YEAR);
        match self.look_until(&Watch::patient(end), service) {
            Waited::Ready => Ok(()),
            // There is no alarm.
            Waited::Alarm => Err("it ended".to_owned()),
            Waited::Late { last, .. } => Err(last),
            Waited::Unusable { why, .. } => Err(why),
        }
    }

    /// What to ask, where that is a callback.
    pub(crate) fn callback(&self) -> Option<Callback> {
        match self {
            Self::Callback(callback) => Some(Arc::clone(callback)),
            _ => None,
        }
    }

    fn look_until(&self, watch: &Watch<'_>, service: &str) -> Waited {
        let mut lines = lines::Reading::default();
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        loop {
            // Before each look: what answers may be somebody else if the service is dead.
            if watch.has_alarm() {
                return Waited::Alarm;
            }
            let found = match self.look(watch, &mut lines, service) {
                Found::Ready => return Waited::Ready,
                Found::Alarm => return Waited::Alarm,
                Found::NotYet(found) => found,
                Found::Unusable(why) => {
                    let waiting_for = self.to_string();
                    return Waited::Unusable { waiting_for, why };
                }
            };
            if watch.is_over() {
                // A look that was cut short tells less than the one before.
                let last = last.unwrap_or(found) + &self.elsewhere();
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

    /// What else is known of a service that was not ready in time.
    fn elsewhere(&self) -> String {
        match self {
            Self::Tcp(addresses) | Self::Http { addresses, .. } => addresses.elsewhere(),
            _ => String::new(),
        }
    }

    #[cfg_attr(
        windows,
        expect(unused_variables, reason = "only notifications tell of the service")
    )]
    fn look(&self, watch: &Watch<'_>, lines: &mut lines::Reading, service: &str) -> Found {
        match self {
            Self::Tcp(addresses) => addresses.look(watch, connection::accepts_tcp),
            Self::Http { addresses, path } => {
                addresses.look(watch, |address, watch| http::look(address, path, watch))
            }
            Self::Unix(path) => connection::accepts_unix(path, &watch.one_attempt(Duration::ZERO)),
            Self::Log(log) => log.look(lines, watch),
            Self::Command(trial) => trial.run(watch),
            #[cfg(unix)]
            Self::Notify(socket) => notify::listen(socket, watch, service),
            Self::Callback(_) => Found::Ready,
            // An event with a deadline: the wait ends early only if the service does.
            Self::AtOnce => match watch.at_most(SURVIVAL).rest() {
                Woken::Alarm => Found::Alarm,
                _ => Found::Ready,
            },
        }
    }
}

/// What is waited for.
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
            Self::Callback(_) => f.write_str("the readiness callback to say yes"),
            Self::AtOnce => f.write_str("nothing"),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
