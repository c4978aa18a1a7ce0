//! `procref doctor`: what keeps services from working on this machine.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use procref::Services;
use serde::Serialize;

use crate::args::{DoctorArgs, Globals};
use crate::config;
use crate::error::{Error, FAILED, Result};
use crate::output;

pub(crate) mod probe;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    /// Good to know.
    Note,
    /// It works, and there is something that will not.
    Warning,
    /// Services do not work.
    Error,
}

impl Severity {
    fn style(self) -> Style {
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

/// What a look has found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at: a word that stays.
    check: &'static str,
    severity: Severity,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, severity: Severity, found: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            found: found.into(),
            advice: None,
        }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, found)
    }

    fn advice(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }
}

/// The services of the runtime directory, whether it is there or not; what keeps it from being used, which says
/// what to do.
fn services(check: &'static str, named: Option<&Path>) -> Result<Services, Finding> {
    let services = match named {
        Some(dir) => Services::in_dir(dir),
        None => Services::open(),
    };
    services.map_err(|error| Finding::new(check, Severity::Error, Error::from(error).to_string()))
}

#[derive(Serialize)]
struct Report<'a> {
    /// The worst of all.
    severity: Severity,
    findings: &'a [Finding],
}

pub(crate) fn run(globals: &Globals, args: &DoctorArgs) -> Result<ExitCode> {
    let mut findings = sys::look(globals.runtime_dir.as_deref());
    findings.push(configuration(globals));
    let worst = findings.iter().map(|finding| finding.severity).max();
    let severity = worst.unwrap_or(Severity::Ok);
    if args.json.json {
        output::print_json(&Report {
            severity,
            findings: &findings,
        })?;
    } else {
        output::print(&shown(&findings))?;
    }
    Ok(match severity {
        Severity::Error => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    })
}

fn shown(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (severity, style) = (finding.severity, finding.severity.style());
        text.push_str(&format!(
            "{style}{severity:7}{style:#}  {}\n",
            finding.found
        ));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("         -> {advice}\n"));
        }
    }
    text
}

/// Whether the configuration that counts here can be read.
fn configuration(globals: &Globals) -> Finding {
    const CHECK: &str = "configuration";
    match config::read_files(globals) {
        Ok(files) if files.is_empty() => Finding::ok(CHECK, "there is no configuration file here"),
        Ok(files) => {
            let found = format!("configuration: {}", files.join(", "));
            match config::doubt_of_named(globals) {
                None => Finding::ok(CHECK, found),
                Some(doubt) => Finding::new(
                    CHECK,
                    Severity::Warning,
                    format!("{found}, which was named; {doubt}"),
                )
                .advice("another user may choose what is executed: keep the file in a directory of your own"),
            }
        }
        Err(error) => Finding::new(CHECK, Severity::Error, format!("configuration: {error}"))
            .advice("put it right, or use --no-config"),
    }
}
