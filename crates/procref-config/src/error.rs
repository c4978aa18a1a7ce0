//! The errors of this crate.

use std::io;
use std::path::PathBuf;

use crate::files::diagnostic::ConfigError;
use crate::text::shown;

pub mod library;

use library::Message;

/// The result of a function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error about a configuration or its services.
///
/// ```
/// use procref_config::{Error, Project};
///
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("procref.toml");
/// std::fs::write(&file, "[services.db]\nstart = 'db-server'\nlinger = 5\n")?;
/// match Project::read(&file) {
///     Err(Error::Config(error)) => assert_eq!(error.diagnostics().len(), 1),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file is invalid or cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// No file describes a service of this name.
    #[error("no service `{}` in {}{hint}", shown(.name), listed(.files))]
    #[non_exhaustive]
    UnknownService {
        /// The name.
        name: String,
        /// The files that were read.
        files: Vec<PathBuf>,
        /// The most similar name, or all names, as the end of the message.
        hint: String,
    },

    /// Two services cannot be used together, because they export the same variable.
    #[error("{0}")]
    Conflict(String),

    /// The library could not start, join or release a service.
    #[error("{}", Message(.0))]
    Service(#[from] procref::Error),

    /// The work before a service's program failed or took too long.
    #[error("{message}{output}")]
    #[non_exhaustive]
    BeforeProgram {
        /// The work, the service and the cause.
        message: String,
        /// `true` if the time limit of the start was exceeded.
        late: bool,
        /// The end of the service's log, as the end of the message.
        output: String,
    },

    /// A service exited after it was ready.
    #[error("service `{service}` has exited{how}")]
    #[non_exhaustive]
    Exited {
        /// The name of the service.
        service: String,
        /// The exit status and the last line of the log, as the end of the message.
        how: String,
    },

    /// An error about a service, with a hint about its cause.
    #[error("{error}\nhint: {advice}")]
    #[non_exhaustive]
    Advised {
        /// The error.
        error: Box<Error>,
        /// The hint.
        advice: String,
    },

    /// An error about a service, after other clients' starts that failed.
    #[error(
        "{error}\nbefore that, {failures} by other clients failed while this client waited; last error: {last}",
        failures = starts(*.failures)
    )]
    #[non_exhaustive]
    AfterFailures {
        /// The error of this client's start.
        error: Box<Error>,
        /// The number of the starts that failed before.
        failures: u32,
        /// The last error of another client's start.
        last: String,
    },

    /// A system call failed that is not about a service.
    #[error("could not {doing}: {source}")]
    #[non_exhaustive]
    Io {
        /// The failed operation.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
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
}

fn starts(failures: u32) -> String {
    match failures {
        1 => "1 start".to_owned(),
        _ => format!("{failures} starts"),
    }
}

fn listed(files: &[PathBuf]) -> String {
    let paths: Vec<String> = files
        .iter()
        .map(|file| shown(&file.to_string_lossy()))
        .collect();
    paths.join(" or ")
}
