use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

mod advice;
pub(crate) mod foreground;

pub(crate) use advice::{ended, exec_advice};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, said so that a person can act on it.
///
/// Each variant names what was being done, the service or path it was done to,
/// and what helps. An operating system error is kept as the
/// [source](std::error::Error::source).
///
/// A callback reports its own failure with `?` or `.into()`: [`io::Error`],
/// [`String`] and `&str` convert.
///
/// ```
/// fn callback() -> procref::Result<()> {
///     std::fs::metadata("/")?;
///     Err("the database refused the connection".into())
/// }
/// assert!(callback().unwrap_err().to_string().contains("refused"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot be a service's name.
    #[error("invalid service name {name:?}: {reason}")]
    InvalidName {
        /// The name, shortened when it is long.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A setting cannot be used.
    #[error("service `{service}`: invalid {setting}: {reason}")]
    InvalidSetting {
        /// The service that was being built.
        service: String,
        /// The setting, as the builder's method is called.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// The runtime directory cannot be used.
    #[error("runtime directory {}: {reason}", .path.display())]
    RuntimeDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
        /// The operating system's error, where there is one.
        source: Option<io::Error>,
    },

    /// `/proc` does not show the processes that this process sees, so no process could be told from another.
    #[error("could not identify processes by /proc: {reason}")]
    Proc {
        /// What is wrong with it and what to do.
        reason: String,
        /// The operating system's error, where there is one.
        source: Option<io::Error>,
    },

    /// This process, or its next child, is not in the namespaces that its services are in.
    #[error("could not share services from the namespaces of this process: {reason}")]
    Namespaces {
        /// Which namespaces differ and what to do.
        reason: String,
    },

    /// The kernel refused an operation on the object that counts the clients.
    #[error("service `{service}`: could not {operation}: {source} ({advice})")]
    Kernel {
        /// The service.
        service: String,
        /// What was being done.
        operation: &'static str,
        /// What the error means here and what to do.
        advice: String,
        /// The operating system's error.
        source: io::Error,
    },

    /// The kernel object under the service's key belongs to somebody else.
    #[error("service `{service}`: the kernel object {object} is not ours: {reason}")]
    Foreign {
        /// The service.
        service: String,
        /// The object as the system's tools name it.
        object: String,
        /// Whose it is, or what gives it away.
        reason: String,
    },

    /// As many processes hold the service as the kernel can count.
    #[error("service `{service}` has {limit} clients already, and the kernel counts no further")]
    TooManyClients {
        /// The service.
        service: String,
        /// The highest number of client processes.
        limit: u32,
    },

    /// Nobody runs the service and this client does not know how to start it.
    #[error(
        "service `{service}` is not running, or not healthy, and this client has neither a `command` \
         nor an `on_first_acquire` callback to start it with"
    )]
    NoStart {
        /// The service.
        service: String,
    },

    /// The service runs, but was started in the other way: by a command, and this client has callbacks, or
    /// by callbacks, and this client has a command.
    #[error(
        "service `{service}` (pid {pid}) was started by {theirs}, and this client would start and stop \
         it by {ours}; give all clients the same, or this one another name"
    )]
    OtherKind {
        /// The service.
        service: String,
        /// Its process.
        pid: u32,
        /// How it was started.
        theirs: &'static str,
        /// How this client would.
        ours: &'static str,
    },

    /// The start of the service, or a callback of it, asks for the service itself, and would wait for its own
    /// end.
    #[error("service `{service}`: {reason}")]
    Recursion {
        /// The service.
        service: String,
        /// What asks for it, and what to do.
        reason: &'static str,
    },

    /// Starts by other clients failed while this client waited for them, and then this client failed, too: its
    /// own start, or its wait for another one.
    #[error(
        "service `{service}`: {} while this client waited, the last one because: {last}; then this client \
         failed: {source}",
        advice::failures(*.failures)
    )]
    StartsFailed {
        /// The service.
        service: String,
        /// How many starts failed, as far as this client knows.
        failures: u32,
        /// Why the last of them failed, on one line.
        last: String,
        /// This client's own failure.
        source: Box<Error>,
    },

    /// A callback failed.
    #[error("service `{service}`: `{callback}` failed: {source}")]
    Callback {
        /// The service.
        service: String,
        /// The builder's method that set the callback.
        callback: &'static str,
        /// What the callback returned.
        source: Box<Error>,
    },

    /// A callback panicked where the panic could not be passed on.
    #[error("service `{service}`: `{callback}` panicked: {message}")]
    CallbackPanicked {
        /// The service.
        service: String,
        /// The builder's method that set the callback.
        callback: &'static str,
        /// The panic's message.
        message: String,
    },

    /// A callback returned a [`ServiceInfo`](crate::ServiceInfo) that cannot be shared.
    #[error("service `{service}`: `{callback}` returned pid {pid}: {reason}")]
    InvalidInstance {
        /// The service.
        service: String,
        /// The builder's method that set the callback.
        callback: &'static str,
        /// The pid it returned.
        pid: u32,
        /// What is wrong with it.
        reason: String,
    },

    /// The service was started, and its health check said no.
    #[error(
        "service `{service}` (pid {pid}) was started but is not healthy; `{callback}` must \
         return only when the service is ready, so it was stopped again"
    )]
    Unhealthy {
        /// The service.
        service: String,
        /// The callback that started it.
        callback: &'static str,
        /// The pid it had.
        pid: u32,
    },

    /// The service runs, and is not what this client wants it to be.
    #[error(
        "service `{service}` runs as process {pid} {}, and this client wants {}: use what the others \
         use, or wait until they have let go of it, or build with `Mismatch::Join` or \
         `Mismatch::Separate`",
        advice::fingerprint(.theirs.as_deref()),
        advice::shortened(.ours)
    )]
    Fingerprint {
        /// The service.
        service: String,
        /// The fingerprint this client was built with.
        ours: String,
        /// The instance's fingerprint; `None` if it has none, or its record is gone.
        theirs: Option<String>,
        /// The instance's process; 0 where it has no local one.
        pid: u32,
    },

    /// The service was to be stopped, and clients hold it.
    #[error(
        "service `{service}` was not stopped: {}",
        advice::held(*.clients, .holders)
    )]
    Held {
        /// The service.
        service: String,
        /// How many processes hold it.
        clients: u32,
        /// Those of them that the kernel names, up to a hundred; ordered by pid.
        holders: Vec<u32>,
    },

    /// Something took longer than it may.
    #[error("service `{service}`: {operation} took longer than {limit:?}{}", advice::holder(*.holder, *.suspended))]
    Timeout {
        /// The service.
        service: String,
        /// What took so long.
        operation: &'static str,
        /// How long it may take.
        limit: Duration,
        /// The process that was waited for, as far as the kernel can tell.
        holder: Option<u32>,
        /// Whether that process is suspended: by Ctrl-Z, `SIGSTOP` or a debugger.
        suspended: bool,
    },

    /// The process that starts or stops the service is suspended, and so is everything that waits for it.
    #[error(
        "service `{service}` was not stopped: process {holder}, which is starting or stopping it, is suspended \
         (continue it with `kill -CONT {holder}`, or end it with `kill -KILL {holder}`, and try again)"
    )]
    Suspended {
        /// The service.
        service: String,
        /// The process that is suspended.
        holder: u32,
    },

    /// The service lives although everything was done to stop it.
    #[error(
        "service `{service}`: pid {pid} could not be stopped: {reason}; nothing will be started \
         beside it, stop it by hand and acquire again"
    )]
    Unstoppable {
        /// The service.
        service: String,
        /// The process that lives on.
        pid: u32,
        /// Why it does.
        reason: String,
    },

    /// The record file could not be written or removed.
    #[error("service `{service}`: could not {operation} {}: {source}", .path.display())]
    Record {
        /// The service.
        service: String,
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A [`RefCounter`](crate::RefCounter) was asked to give back what it does not hold.
    #[error("counter `{service}`: {operation}, but this counter does not hold {what}")]
    NotHeld {
        /// The counter's name.
        service: String,
        /// The method.
        operation: &'static str,
        /// What it does not hold.
        what: &'static str,
    },

    /// A [`ServiceHandle`](crate::ServiceHandle) was asked for what takes a reference, and has none.
    #[error("service `{service}`: could not {operation}: {reason}; acquire it anew")]
    NoReference {
        /// The service.
        service: String,
        /// What was being done.
        operation: &'static str,
        /// Why there is none.
        reason: &'static str,
    },

    /// A process could not be looked at or signalled.
    #[error("could not {operation} process {pid}: {source}")]
    Process {
        /// What was being done.
        operation: &'static str,
        /// The process.
        pid: u32,
        /// The operating system's error.
        source: io::Error,
    },

    /// The process that stops the service when all clients are killed could not be started.
    #[error(
        "service `{service}`: could not start its supervisor, the process that stops it when nobody is \
         left: could not {operation}: {source}"
    )]
    Supervisor {
        /// The service.
        service: String,
        /// What was being done.
        operation: &'static str,
        /// The operating system's error.
        source: io::Error,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) could not be found or executed.
    #[error("service `{service}`: could not start `{program}`: {reason}")]
    Exec {
        /// The service.
        service: String,
        /// The program as it was named.
        program: String,
        /// What went wrong and what to do.
        reason: String,
        /// The operating system's error, where there is one.
        source: Option<io::Error>,
    },

    /// The port of a [`ServiceCommand`](crate::ServiceCommand) cannot be had.
    #[error(
        "service `{service}`: could not bind 127.0.0.1:{port}: {source} ({})",
        advice::bind_advice(.source)
    )]
    Port {
        /// The service.
        service: String,
        /// The port; 0 where any would have done.
        port: u16,
        /// The operating system's error.
        source: io::Error,
    },

    /// The log of a [`ServiceCommand`](crate::ServiceCommand) cannot be used.
    #[error("service `{service}`: could not {operation} the log {}: {source}", .path.display())]
    Log {
        /// The service.
        service: String,
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error, or what is wrong with the file.
        source: io::Error,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) ended before it was ready.
    #[error(
        "service `{service}`: `{program}` {} after {:?}, before it was ready{}{}",
        advice::ended(*.status), advice::rounded(*.after), .output.advice,
        .output
    )]
    Exited {
        /// The service.
        service: String,
        /// The program as it was named.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// How long after its start.
        after: Duration,
        /// What it wrote last.
        output: Box<LogTail>,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) lives and was not ready in time.
    #[error(
        "service `{service}`: `{program}` was not ready within {limit:?}: waiting for \
         {waiting_for}: {last}{}",
        .output
    )]
    NotReady {
        /// The service.
        service: String,
        /// The program as it was named.
        program: String,
        /// How long it may take.
        limit: Duration,
        /// What would have made it ready.
        waiting_for: String,
        /// What the last look found.
        last: String,
        /// What it wrote last.
        output: Box<LogTail>,
    },

    /// A helper thread could not be started.
    #[error("could not start a thread to {purpose}: {source}")]
    Thread {
        /// What it was for.
        purpose: &'static str,
        /// The operating system's error.
        source: io::Error,
    },

    /// An input or output error, mostly a callback's own.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// A message, mostly a callback's own.
    #[error("{0}")]
    Message(String),
}

/// The end of a service's output.
///
/// ```no_run
/// # async fn example(service: procref::SharedService) -> procref::Result<()> {
/// use procref::Error;
///
/// match service.acquire().await {
///     Err(Error::Exited { output, .. }) => {
///         println!("it could not be started; see {}", output.log.display());
///         println!("the last that it wrote: {}", output.lines);
///     }
///     acquired => drop(acquired?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogTail {
    /// Where the output went.
    pub log: PathBuf,
    /// The last lines since the start, empty if there are none. At most 20 lines and 4 KiB.
    pub lines: String,
    /// What can be done about the end of the program, as a part of the message before these lines.
    advice: String,
}

/// As the end of a message.
impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return write!(f, "; it wrote nothing to {}", self.log.display());
        }
        write!(f, "; last lines of {}:", self.log.display())?;
        self.lines
            .lines()
            .try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::Message(message.to_owned())
    }
}

impl Error {
    pub(crate) fn runtime_dir(path: &Path, reason: impl Into<String>) -> Self {
        Self::RuntimeDir {
            path: path.to_owned(),
            reason: reason.into(),
            source: None,
        }
    }

    pub(crate) fn runtime_dir_io(path: &Path, doing: &str, source: io::Error) -> Self {
        Self::RuntimeDir {
            path: path.to_owned(),
            reason: format!("{doing}: {source}"),
            source: Some(source),
        }
    }

    /// `exec` failed, or the look before it.
    pub(crate) fn exec(service: &str, program: &str, source: io::Error) -> Self {
        Self::Exec {
            service: service.to_owned(),
            program: program.to_owned(),
            reason: format!("{source}{}", advice::exec_advice(&source)),
            source: Some(source),
        }
    }

    /// Something else that the program needs is not to be had.
    pub(crate) fn not_started(
        service: &str,
        program: &str,
        reason: String,
        source: Option<io::Error>,
    ) -> Self {
        Self::Exec {
            service: service.to_owned(),
            program: program.to_owned(),
            reason,
            source,
        }
    }

    /// The program ended before it was ready; `lines` are the last of `log`. `line` is the program as it
    /// was named, and its arguments.
    pub(crate) fn exited(
        service: &str,
        line: &[String],
        status: ExitStatus,
        after: Duration,
        (log, lines): (PathBuf, String),
    ) -> Self {
        let advice = match status.success() {
            true => format!(" ({})", foreground::advice(line)),
            false => String::new(),
        };
        Self::Exited {
            service: service.to_owned(),
            program: line.first().cloned().unwrap_or_default(),
            status,
            after,
            output: Box::new(LogTail { log, lines, advice }),
        }
    }

    /// The program was not ready in time; `missing` is what was waited for, and what was found.
    pub(crate) fn not_ready(
        service: &str,
        program: String,
        limit: Duration,
        missing: (String, String),
        (log, lines): (PathBuf, String),
    ) -> Self {
        let (waiting_for, last) = missing;
        Self::NotReady {
            service: service.to_owned(),
            program,
            limit,
            waiting_for,
            last,
            output: Box::new(LogTail {
                log,
                lines,
                advice: String::new(),
            }),
        }
    }
}
