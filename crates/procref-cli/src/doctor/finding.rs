//! The result of a check.

use std::fmt;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use procref::Services;
use serde::Serialize;

use crate::error::Error;
use crate::runtime_dir;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Ok,
    /// Useful information.
    Note,
    /// Services work, but with a limitation.
    Warning,
    /// Services do not work.
    Error,
}

impl Severity {
    pub(super) fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Note => AnsiColor::Cyan.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Error => AnsiColor::Red.on_default().bold(),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The name of the check, which programs may compare.
    check: &'static str,
    pub(super) severity: Severity,
    pub(super) found: String,
    /// The advice to the user.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn new(check: &'static str, severity: Severity, found: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            found: found.into(),
            advice: None,
        }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, found)
    }

    pub(super) fn advice(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// Returns the services of the runtime directory, which need not exist, or a finding if the directory cannot be used.
pub(super) fn services(check: &'static str, dir: Option<&Path>) -> Result<Services, Finding> {
    runtime_dir::services(dir)
        .map_err(|error| Finding::new(check, Severity::Error, Error::from(error).to_string()))
}
