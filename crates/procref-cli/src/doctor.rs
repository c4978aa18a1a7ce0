//! `procref doctor`: what keeps services from working on this machine.

use std::env;
use std::fmt;
use std::fs;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::args::{DoctorArgs, Globals};
use crate::config;
use crate::error::{FAILED, Result};
use crate::output;

mod logind;
pub(crate) mod probe;
mod proc;
mod runtime_dir;
mod semaphores;

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

#[derive(Serialize)]
struct Report<'a> {
    /// The worst of all.
    severity: Severity,
    findings: &'a [Finding],
}

pub(crate) fn run(globals: &Globals, args: &DoctorArgs) -> Result<ExitCode> {
    let mut findings = semaphores::look();
    findings.push(probe::look());
    findings.extend(runtime_dir::look(globals.runtime_dir.as_deref()));
    findings.extend(proc::look());
    findings.extend(logind::look());
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
        Ok(files) => Finding::ok(CHECK, format!("configuration: {}", files.join(", "))),
        Err(error) => Finding::new(CHECK, Severity::Error, format!("configuration: {error}"))
            .advice("put it right, or use --no-config"),
    }
}

/// A file of the kernel's, or of the system's; `None` where it is not there or cannot be read.
fn text_of(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn user_name() -> Option<String> {
    env::var("USER").ok().filter(|name| !name.is_empty())
}
