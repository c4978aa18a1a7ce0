use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

mod advice;
pub(crate) mod foreground;
mod log_tail;
mod new;

pub(crate) use advice::{exec_advice, exit_clause};
pub use log_tail::LogTail;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
///
/// Each variant states the failed operation, the service or path, and what to do. An operating
/// system error is the [source](std::error::Error::source). `Debug` prints the same text as
/// `Display`, because `main` and tests print errors by `Debug`. Texts may change in any version.
///
/// Variants and fields may be added in minor versions: match with `..` and a last arm `_`.
///
/// A callback returns its own failure with `?` or `.into()`, because [`io::Error`], [`String`] and
/// `&str` convert.
///
/// ```
/// fn callback() -> procref::Result<()> {
///     std::fs::metadata("/")?;
///     Err("the database refused the connection".into())
/// }
/// assert!(callback().unwrap_err().to_string().contains("refused"));
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Every variant may get more fields. procref's own tests construct variants, with a feature for that.
    /// The name cannot be a service's name.
    #[error("invalid service name {name:?}: {reason}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    InvalidName {
        /// The name, shortened if it is long.
        name: String,
        /// The reason.
        reason: &'static str,
    },

    /// A setting cannot be used.
    #[error("service `{service}`: invalid {setting}: {reason}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    InvalidSetting {
        /// The service that was being built.
        service: String,
        /// The name of the builder's method.
        setting: &'static str,
        /// The reason.
        reason: String,
    },

    /// The runtime directory cannot be used.
    #[error("runtime directory {}: {reason}", .path.display())]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    RuntimeDir {
        /// The directory.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
        /// The operating system's error, if there is one.
        source: Option<io::Error>,
    },

    /// `/proc` is missing or belongs to another pid namespace, so processes cannot be identified.
    #[error("could not identify processes by /proc: {reason}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Proc {
        /// The reason, and what to do.
        reason: String,
        /// The operating system's error, if there is one.
        source: Option<io::Error>,
    },

    /// The namespaces of this process, or of its next child, are not those of its services.
    #[error("could not share services from the namespaces of this process: {reason}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Namespaces {
        /// The namespaces that differ, and what to do.
        reason: String,
    },

    /// The kernel refused an operation on the object that counts the clients.
    #[error("service `{service}`: could not {operation}: {source} ({advice})")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Kernel {
        /// The service.
        service: String,
        /// The failed operation.
        operation: &'static str,
        /// The meaning of the error in this context, and what to do.
        advice: String,
        /// The operating system's error.
        source: io::Error,
    },

    /// The kernel object with the service's key belongs to another user or another service.
    #[error(
        "service `{service}`: the kernel object {object} belongs to another user or service: {reason}"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Foreign {
        /// The service.
        service: String,
        /// The object's name in the system's tools.
        object: String,
        /// The owner, or the property that shows it.
        reason: String,
    },

    /// The kernel cannot count further clients of the service.
    #[error(
        "service `{service}`: could not count another client: the kernel counts at most {limit}"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    TooManyClients {
        /// The service.
        service: String,
        /// The highest number of client processes.
        limit: u32,
    },

    /// The service does not run, and this client has no way to start it.
    #[error(
        "service `{service}`: not running or not healthy, and this client cannot start it (set a `command` \
         or an `on_first_acquire` callback)"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    NoStart {
        /// The service.
        service: String,
    },

    /// The service was started by a command and this client has callbacks, or the reverse.
    #[error(
        "service `{service}`: process {pid} was started by {theirs}, but this client uses {ours} (use the \
         same in all clients, or another name in this one)"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    OtherKind {
        /// The service.
        service: String,
        /// The pid of the service.
        pid: u32,
        /// The way in which the service was started.
        theirs: &'static str,
        /// The way in which this client would start it.
        ours: &'static str,
    },

    /// The start of the service, or one of its callbacks, acquires the service itself and would wait for
    /// its own completion.
    #[error("service `{service}`: {reason}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Recursion {
        /// The service.
        service: String,
        /// The part of the start that acquires the service, and what to do.
        reason: &'static str,
    },

    /// Starts by other clients failed while this client waited. Then this client's own start, or its wait for
    /// another start, failed, too.
    #[error(
        "service `{service}`: {} while this client waited, the last one because: {last}; then this client \
         failed: {source}",
        advice::failures(*.failures)
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    StartsFailed {
        /// The service.
        service: String,
        /// Number of failed starts that this client knows of.
        failures: u32,
        /// The reason of the last failed start, on one line.
        last: String,
        /// This client's own failure.
        source: Box<Error>,
    },

    /// A callback failed.
    #[error("service `{service}`: `{callback}` failed: {source}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Callback {
        /// The service.
        service: String,
        /// The builder's method that set the callback.
        callback: &'static str,
        /// The error that the callback returned.
        source: Box<Error>,
    },

    /// A callback panicked in a context in which the panic could not be resumed.
    #[error("service `{service}`: `{callback}` panicked: {message}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
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
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    InvalidInstance {
        /// The service.
        service: String,
        /// The builder's method that set the callback.
        callback: &'static str,
        /// The returned pid.
        pid: u32,
        /// The reason.
        reason: String,
    },

    /// The health check failed right after the start.
    #[error(
        "service `{service}`: process {pid} was started but is not healthy, and was stopped (return from \
         `{callback}` only when the service is ready)"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Unhealthy {
        /// The service.
        service: String,
        /// The callback that started it.
        callback: &'static str,
        /// The pid of the stopped service.
        pid: u32,
    },

    /// The fingerprint of the running instance differs from that of this client.
    #[error(
        "service `{service}`: process {pid} runs {}, but this client wants {} (use the fingerprint of the \
         other clients, wait until they have released the service, or use `Mismatch::Join` or \
         `Mismatch::Separate`)",
        advice::fingerprint(.theirs.as_deref()),
        advice::shortened(.ours)
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Fingerprint {
        /// The service.
        service: String,
        /// The fingerprint of this client.
        ours: String,
        /// The instance's fingerprint; `None` if it has none, or its record is missing.
        theirs: Option<String>,
        /// The pid of the instance; 0 if it has no local process.
        pid: u32,
    },

    /// The service was not stopped because clients hold it.
    #[error(
        "service `{service}`: not stopped: {}",
        advice::held(*.clients, .holders)
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Held {
        /// The service.
        service: String,
        /// Number of processes that hold the service.
        clients: u32,
        /// The pids of these processes in ascending order, if the kernel names them. The list has at most 100
        /// pids.
        holders: Vec<u32>,
    },

    /// A time limit expired.
    #[error("service `{service}`: {operation} took longer than {limit:?}{}", advice::holder(*.holder, *.suspended))]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Timeout {
        /// The service.
        service: String,
        /// The operation that took too long.
        operation: &'static str,
        /// The time limit.
        limit: Duration,
        /// The process that blocked the operation, if the kernel names one.
        holder: Option<u32>,
        /// `true` if that process is suspended by Ctrl-Z, `SIGSTOP` or a debugger.
        suspended: bool,
    },

    /// The process that starts or stops the service is suspended, so the service cannot be stopped.
    #[error(
        "service `{service}`: not stopped: process {holder}, which is starting or stopping it, is suspended \
         (continue it with `kill -CONT {holder}`, or kill it with `kill -KILL {holder}`, and retry)"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Suspended {
        /// The service.
        service: String,
        /// The suspended process.
        holder: u32,
    },

    /// The service is still alive after every attempt to stop it.
    #[error(
        "service `{service}`: could not stop process {pid}: {reason} (stop the process by hand and acquire \
         again; procref starts nothing beside it)"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Unstoppable {
        /// The service.
        service: String,
        /// The process that is still alive.
        pid: u32,
        /// The reason.
        reason: String,
    },

    /// The record file could not be written or removed.
    #[error("service `{service}`: could not {operation} {}: {source}", .path.display())]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Record {
        /// The service.
        service: String,
        /// The failed operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A [`RefCounter`](crate::RefCounter) does not hold the reference or lock to be released.
    #[error("counter `{service}`: {operation}, but this counter does not hold {what}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    NotHeld {
        /// The counter's name.
        service: String,
        /// The called method.
        operation: &'static str,
        /// The missing reference or lock.
        what: &'static str,
    },

    /// The operation needs a reference, and this [`ServiceHandle`](crate::ServiceHandle) has none.
    #[error("service `{service}`: could not {operation}: {reason} (acquire the service again)")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    NoReference {
        /// The service.
        service: String,
        /// The failed operation.
        operation: &'static str,
        /// The reason.
        reason: &'static str,
    },

    /// A process could not be inspected or signaled.
    #[error("could not {operation} process {pid}: {source}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Process {
        /// The failed operation.
        operation: &'static str,
        /// The process.
        pid: u32,
        /// The operating system's error.
        source: io::Error,
    },

    /// The supervisor, which stops the service when all clients are killed, could not be started.
    #[error(
        "service `{service}`: could not start the supervisor, which stops the service after the last \
         client: could not {operation}: {source}"
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Supervisor {
        /// The service.
        service: String,
        /// The failed operation.
        operation: &'static str,
        /// The operating system's error.
        source: io::Error,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) could not be found or executed.
    #[error("service `{service}`: could not start `{program}`: {reason}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Exec {
        /// The service.
        service: String,
        /// The program, as given to the builder.
        program: String,
        /// The reason, and what to do.
        reason: String,
        /// The operating system's error, if there is one.
        source: Option<io::Error>,
    },

    /// The port of a [`ServiceCommand`](crate::ServiceCommand) is not available.
    #[error(
        "service `{service}`: could not bind 127.0.0.1:{port}: {source} ({})",
        advice::bind_advice(.source)
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Port {
        /// The service.
        service: String,
        /// The port; 0 if any free port was requested.
        port: u16,
        /// The operating system's error.
        source: io::Error,
    },

    /// The log of a [`ServiceCommand`](crate::ServiceCommand) cannot be used.
    #[error("service `{service}`: could not {operation} the log {}: {source}", .path.display())]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Log {
        /// The service.
        service: String,
        /// The failed operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error, or the property of the file that prevents its use.
        source: io::Error,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) exited before it was ready.
    #[error(
        "service `{service}`: `{program}` {} after {:?}, before it was ready{}{}",
        advice::exit_clause(*.status), advice::rounded(*.after), .output.advice,
        .output
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Exited {
        /// The service.
        service: String,
        /// The program, as given to the builder.
        program: String,
        /// The exit status.
        status: ExitStatus,
        /// Time from its start to its exit.
        after: Duration,
        /// The end of its output.
        output: Box<LogTail>,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) was not ready in time.
    #[error(
        "service `{service}`: `{program}` was not ready within {limit:?}: waiting for \
         {waiting_for}: {last}{}",
        .output
    )]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    NotReady {
        /// The service.
        service: String,
        /// The program, as given to the builder.
        program: String,
        /// The time limit.
        limit: Duration,
        /// The readiness condition.
        waiting_for: String,
        /// The result of the last check.
        last: String,
        /// The end of its output.
        output: Box<LogTail>,
    },

    /// The program of a [`ServiceCommand`](crate::ServiceCommand) sent a
    /// [notification](crate::Ready::notify) that cannot be used.
    #[error("service `{service}`: `{program}` sent an invalid notification: {reason}{}", .output)]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Notification {
        /// The service.
        service: String,
        /// The program, as given to the builder.
        program: String,
        /// The variable that cannot be used, and the reason.
        reason: String,
        /// The end of its output.
        output: Box<LogTail>,
    },

    /// A helper thread could not be started.
    #[error("could not start a thread to {purpose}: {source}")]
    #[cfg_attr(not(feature = "fuzzing"), non_exhaustive)]
    Thread {
        /// The purpose of the thread.
        purpose: &'static str,
        /// The operating system's error.
        source: io::Error,
    },

    /// An input or output error, usually from a callback.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// A message, usually from a callback.
    #[error("{0}")]
    Message(String),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_text_of_display() {
        let error = Error::Callback {
            service: "web".to_owned(),
            callback: "on_ready",
            source: Box::new("the migration failed".into()),
        };
        let shown = error.to_string();
        assert!(shown.contains("the migration failed"));
        assert_eq!(format!("{error:?}"), shown);
        assert_eq!(
            format!("{:?}", Err::<(), _>(error)),
            format!("Err({shown})")
        );
    }
}
