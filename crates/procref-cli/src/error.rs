//! What can go wrong, and the exit code for it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::{Cli, Command};
use crate::config::ConfigError;
use crate::output::{self, shown};

mod library;

use library::InOwnWords;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Something else has failed.
pub(crate) const FAILED: u8 = 1;
/// The command line or the configuration cannot be understood.
pub(crate) const USAGE: u8 = 2;
/// The service does not run.
pub(crate) const NOT_RUNNING: u8 = 3;
/// Clients hold the service.
pub(crate) const HELD: u8 = 4;
/// It took too long.
pub(crate) const TOO_LATE: u8 = 5;
/// `run`: whatever kept the client from being run.
pub(crate) const CLIENT_NOT_RUN: u8 = 125;
/// `run`: the client was found and could not be executed.
pub(crate) const CLIENT_NOT_EXECUTABLE: u8 = 126;
/// `run`: the client was not found.
pub(crate) const CLIENT_NOT_FOUND: u8 = 127;

/// The end of `--help`, and part of the manual.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    the command line or the configuration is wrong
  3    the service does not run, or no service has the name
  4    clients hold the service, so it was not stopped
  5    it took longer than it may
  run has its client's, and of its own only these:
  125  the client was not run: procref or the service failed
  126  the client was found and could not be executed
  127  the client was not found";

/// Everything that a command can fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", InOwnWords(.0))]
    Service(#[from] procref::Error),

    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),

    /// What a configuration file says makes no sense, or there is none to be had.
    #[error("{}{}", .0, summary(.0))]
    Config(#[from] ConfigError),

    /// Something has gone wrong that is neither a service's nor the system's fault alone.
    #[error("{0}")]
    Failed(String),

    #[error("service `{service}` does not run (in {}){hint}", .dir.display())]
    NotRunning {
        service: String,
        dir: PathBuf,
        /// What else may be meant.
        hint: String,
    },

    /// It was there, and is not any more.
    #[error("service `{service}` has ended{how}")]
    Ended { service: String, how: String },

    /// It has died, and no client has started it again.
    #[error(
        "service `{service}` is dead{how} (its next client starts it anew; its output: procref logs {service})"
    )]
    Dead { service: String, how: String },

    /// Clients hold it.
    #[error("{0}")]
    Held(String),

    #[error("service `{service}` was not {what} within {}", humantime::format_duration(*.limit))]
    TooLate {
        service: String,
        what: &'static str,
        limit: Duration,
    },

    /// What procref does before it executes a service's program has failed, or took too long.
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
        /// What to write instead, if it was written for a shell.
        hint: String,
        source: io::Error,
    },

    /// An error about a service, with what the command line knows of its cause.
    #[error("{error}\nhint: {advice}")]
    Advised { error: Box<Error>, advice: String },

    /// An error about a service, and what the client knows of the starts by others that failed before.
    #[error(
        "{error}\nbefore that, {failures} of other clients failed while this one waited, the last one with: {last}",
        failures = starts(*.failures)
    )]
    AfterFailures {
        error: Box<Error>,
        failures: u32,
        last: String,
    },

    /// Reading or writing what is not a service's.
    #[error("could not {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// The end of a message about many mistakes, the first of which may be out of sight.
fn summary(error: &ConfigError) -> String {
    match error.problems.len() {
        0 | 1 => String::new(),
        number => format!("\n{number} mistakes in the configuration; nothing was started"),
    }
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    /// Explains a service's error, with what came before it kept apart.
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

    fn code(&self) -> u8 {
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

    /// Whoever read what we print has gone: that is no failure.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn starts(failures: u32) -> String {
    match failures {
        1 => "1 start".to_owned(),
        _ => format!("{failures} starts"),
    }
}

/// Says what went wrong, and how the process ends.
pub(crate) fn exit_code(cli: &Cli, ended: Result<ExitCode>) -> ExitCode {
    let error = match ended {
        Ok(code) => return code,
        Err(error) if error.is_broken_pipe() => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    output::error(&error);
    match (&cli.command, error.code()) {
        (Command::Run(_), code) if code < CLIENT_NOT_RUN => ExitCode::from(CLIENT_NOT_RUN),
        (_, code) => ExitCode::from(code),
    }
}
