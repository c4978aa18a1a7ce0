//! The errors of commands, and the exit code of each.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use procref_config::{ConfigError, Message};

use crate::exit::{
    CLIENT_NOT_EXECUTABLE, CLIENT_NOT_FOUND, FAILED, HELD, NOT_RUNNING, TOO_LATE, USAGE,
};
use crate::output;
use crate::text::shown;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", Message(.0))]
    Service(#[from] procref::Error),

    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),

    /// A configuration file is invalid or cannot be read.
    #[error("{}{}", .0, summary(.0))]
    Config(#[from] ConfigError),

    /// A failure that no other variant describes.
    #[error("{0}")]
    Failed(String),

    #[error("service `{service}` is not running (in {}){hint}", shown(&.dir.to_string_lossy()))]
    NotRunning {
        service: String,
        dir: PathBuf,
        /// A hint about a name that the user may have meant.
        hint: String,
    },

    /// No file describes the service, and no service of this name is running.
    #[error("{0}")]
    UnknownName(String),

    /// The service exited while this process held it.
    #[error(transparent)]
    Ended(procref_config::Error),

    /// The service died, and no client has restarted it.
    #[error(
        "service `{service}` is dead{how} (its next client restarts it; `procref logs {service}` prints its output)"
    )]
    Dead { service: String, how: String },

    /// Clients hold the service.
    #[error("{0}")]
    Held(String),

    #[error("service `{service}` was not {what} within {}", humantime::format_duration(*.limit))]
    TooLate {
        service: String,
        what: &'static str,
        limit: Duration,
    },

    /// A service could not be started, with the cause.
    #[error(transparent)]
    Start(procref_config::Error),

    /// The client of `run` could not be executed.
    #[error("could not execute the client `{program}`: {source}{hint}")]
    Client {
        program: String,
        found: bool,
        /// The correct command, if the client was written for a shell.
        hint: String,
        source: io::Error,
    },

    /// A failed system call that is not about a service.
    #[error("could not {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// Returns the last line of a message about many mistakes. The first of them may have scrolled away.
fn summary(error: &ConfigError) -> String {
    match error.diagnostics().len() {
        0 | 1 => String::new(),
        number => format!("\n{number} errors in the configuration; no service was started"),
    }
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Service(error) => code_of_library(error),
            Self::Start(error) => code_of_start(error),
            Self::Usage(_) | Self::Config(_) => USAGE,
            Self::NotRunning { .. } | Self::UnknownName(_) | Self::Dead { .. } => NOT_RUNNING,
            Self::Held(_) => HELD,
            Self::TooLate { .. } => TOO_LATE,
            Self::Client { found: true, .. } => CLIENT_NOT_EXECUTABLE,
            Self::Client { found: false, .. } => CLIENT_NOT_FOUND,
            Self::Ended(_) | Self::Failed(_) | Self::Io { .. } => FAILED,
        }
    }

    /// Returns `true` if the reader of the output has exited.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The failures of a command that continues after a failure.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    errors: Vec<Error>,
    code: Option<u8>,
}

impl Failures {
    /// Adds an error, which is printed at the end of the command.
    pub(crate) fn add(&mut self, error: Error) {
        self.add_code(error.code());
        self.errors.push(error);
    }

    /// Adds a failure that the output of the command states.
    pub(crate) fn add_code(&mut self, code: u8) {
        self.code.get_or_insert(code);
    }

    /// Prints the errors. Returns the exit code of the first failure, or success if there is none.
    pub(crate) fn report(self) -> ExitCode {
        for error in &self.errors {
            output::error(error);
        }
        self.code.map_or(ExitCode::SUCCESS, ExitCode::from)
    }
}

fn code_of_library(error: &procref::Error) -> u8 {
    match error {
        procref::Error::Timeout { .. } | procref::Error::NotReady { .. } => TOO_LATE,
        procref::Error::InvalidName { .. } | procref::Error::InvalidSetting { .. } => USAGE,
        procref::Error::NoStart { .. } => NOT_RUNNING,
        procref::Error::Held { .. } => HELD,
        _ => FAILED,
    }
}

fn code_of_start(error: &procref_config::Error) -> u8 {
    use procref_config::Error::{Advised, AfterFailures, BeforeProgram, Service};

    match error {
        Service(error) => code_of_library(error),
        Advised { error, .. } | AfterFailures { error, .. } => code_of_start(error),
        BeforeProgram { late: true, .. } => TOO_LATE,
        _ => FAILED,
    }
}

impl From<procref_config::Error> for Error {
    fn from(error: procref_config::Error) -> Self {
        use procref_config::Error::{Config, Conflict, Exited, Io, Service, UnknownService};

        match error {
            Config(error) => Self::Config(error),
            Service(error) => Self::Service(error),
            Conflict(message) => Self::Usage(message),
            Io { doing, source, .. } => Self::Io { doing, source },
            Exited { .. } => Self::Ended(error),
            UnknownService { .. } => Self::UnknownName(error.to_string()),
            _ => Self::Start(error),
        }
    }
}
