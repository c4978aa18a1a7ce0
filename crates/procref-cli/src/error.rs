//! The errors of commands, and the exit code of each.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::diagnostic::ConfigError;
use crate::exit::{
    CLIENT_NOT_EXECUTABLE, CLIENT_NOT_FOUND, FAILED, HELD, NOT_RUNNING, TOO_LATE, USAGE,
};
use crate::text::shown;

mod library;

use library::CliMessage;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", CliMessage(.0))]
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
    #[error("service `{service}` has exited{how}")]
    Ended { service: String, how: String },

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

    /// The work before a service's program failed or took too long.
    #[error("{message}{output}")]
    BeforeProgram {
        message: String,
        late: bool,
        /// The end of the log.
        output: String,
    },

    /// The client of `run` could not be executed.
    #[error("could not execute the client `{program}`: {source}{hint}")]
    Client {
        program: String,
        found: bool,
        /// The correct command, if the client was written for a shell.
        hint: String,
        source: io::Error,
    },

    /// An error about a service, with a hint about its cause.
    #[error("{error}\nhint: {advice}")]
    Advised { error: Box<Error>, advice: String },

    /// An error about a service, after other clients' starts that failed.
    #[error(
        "{error}\nbefore that, {failures} by other clients failed while this client waited; last error: {last}",
        failures = starts(*.failures)
    )]
    AfterFailures {
        error: Box<Error>,
        failures: u32,
        last: String,
    },

    /// A failed system call that is not about a service.
    #[error("could not {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// Returns the last line of a message about many mistakes. The first of them may have scrolled away.
fn summary(error: &ConfigError) -> String {
    match error.diagnostics.len() {
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

    /// Explains a service's error. Errors of earlier starts stay separate.
    pub(crate) fn explained(self, explain: impl FnOnce(Self) -> Self) -> Self {
        match self {
            Self::Service(procref::Error::StartsFailed {
                failures,
                last,
                source,
                ..
            }) => Self::AfterFailures {
                error: Box::new(explain(Self::Service(*source))),
                failures,
                last: shown(&last),
            },
            error => explain(error),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Service(procref::Error::Timeout { .. } | procref::Error::NotReady { .. }) => {
                TOO_LATE
            }
            Self::Service(
                procref::Error::InvalidName { .. } | procref::Error::InvalidSetting { .. },
            )
            | Self::Usage(_)
            | Self::Config(_) => USAGE,
            Self::Service(procref::Error::NoStart { .. })
            | Self::NotRunning { .. }
            | Self::UnknownName(_)
            | Self::Dead { .. } => NOT_RUNNING,
            Self::Service(procref::Error::Held { .. }) | Self::Held(_) => HELD,
            Self::TooLate { .. } | Self::BeforeProgram { late: true, .. } => TOO_LATE,
            Self::Advised { error, .. } | Self::AfterFailures { error, .. } => error.code(),
            Self::Client { found: true, .. } => CLIENT_NOT_EXECUTABLE,
            Self::Client { found: false, .. } => CLIENT_NOT_FOUND,
            Self::Ended { .. }
            | Self::Service(_)
            | Self::Failed(_)
            | Self::BeforeProgram { .. }
            | Self::Io { .. } => FAILED,
        }
    }

    /// Returns `true` if the reader of the output has exited.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn starts(failures: u32) -> String {
    match failures {
        1 => "1 start".to_owned(),
        _ => format!("{failures} starts"),
    }
}
