//! Constructors of errors that need more than their fields.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::{Error, LogTail, advice, foreground};

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

    /// `exec`, or the check before it, failed.
    pub(crate) fn exec(service: &str, program: &str, source: io::Error) -> Self {
        Self::Exec {
            service: service.to_owned(),
            program: program.to_owned(),
            reason: format!("{source}{}", advice::exec_advice(&source)),
            source: Some(source),
        }
    }

    /// A resource of the program, other than the program file, is not available.
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

    /// The program exited before it was ready. `lines` is the end of `log`. `line` is the program and its
    /// arguments.
    pub(crate) fn exited(
        service: &str,
        line: &[String],
        status: ExitStatus,
        after: Duration,
        (log, lines): (PathBuf, String),
    ) -> Self {
        let advice = match status.code() {
            Some(0) => format!(" ({})", foreground::advice(line)),
            // The command itself is not shown, because it may be a program that executes another one.
            Some(_) if lines.is_empty() => {
                " (it gave no reason: run its command by hand, or let it print more)".to_owned()
            }
            _ => String::new(),
        };
        Self::Exited {
            service: service.to_owned(),
            program: line.first().cloned().unwrap_or_default(),
            status,
            after,
            output: Box::new(LogTail { log, lines, advice }),
        }
    }

    /// The program sent a notification that cannot be used.
    pub(crate) fn notification(
        service: &str,
        program: String,
        reason: String,
        (log, lines): (PathBuf, String),
    ) -> Self {
        Self::Notification {
            service: service.to_owned(),
            program,
            reason,
            output: Box::new(LogTail {
                log,
                lines,
                advice: String::new(),
            }),
        }
    }

    /// The program was not ready in time. `missing` is the readiness condition, and the result of the last
    /// check.
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
