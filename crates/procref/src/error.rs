use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        "service `{service}` is not running, or not healthy, and this client has no \
         `on_first_acquire` callback to start it with"
    )]
    NoStart {
        /// The service.
        service: String,
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
        fingerprint_text(.theirs.as_deref()),
        shortened(.ours)
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

    /// Something took longer than it may.
    #[error("service `{service}`: {operation} took longer than {limit:?}{}", holder_text(.holder))]
    Timeout {
        /// The service.
        service: String,
        /// What took so long.
        operation: &'static str,
        /// How long it may take.
        limit: Duration,
        /// The process that was waited for, as far as the kernel can tell.
        holder: Option<u32>,
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
        "service `{service}`: could not start its supervisor: {operation}: {source} (with `orphan` \
         set to `Orphan::Keep` there is none)"
    )]
    Supervisor {
        /// The service.
        service: String,
        /// What was being done.
        operation: &'static str,
        /// The operating system's error.
        source: io::Error,
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
}

fn fingerprint_text(theirs: Option<&str>) -> String {
    match theirs {
        Some(theirs) => format!("with fingerprint {}", shortened(theirs)),
        None => "without a fingerprint".to_owned(),
    }
}

/// A text of the user's in quotes, on one line of a bearable length.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 100;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn holder_text(holder: &Option<u32>) -> String {
    match holder {
        Some(pid) => format!("; process {pid} is in the way"),
        None => String::new(),
    }
}
