//! `procref doctor`: checks whether services work on this machine.

use std::process::ExitCode;

use serde::Serialize;

use crate::args::DoctorArgs;
use crate::config;
use crate::error::Result;
use crate::exit::FAILED;
use crate::globals::Globals;
use crate::output;

mod finding;
pub(crate) mod probe;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

use finding::{Finding, Severity};

#[derive(Serialize)]
struct DoctorJson<'a> {
    /// The highest severity of all findings.
    severity: Severity,
    findings: &'a [Finding],
}

pub(crate) fn run(globals: &Globals, args: &DoctorArgs) -> Result<ExitCode> {
    let mut findings = sys::check(globals.runtime_dir.as_deref());
    findings.push(check_configuration(globals));
    let highest = findings.iter().map(|finding| finding.severity).max();
    let severity = highest.unwrap_or(Severity::Ok);
    if args.json.json {
        output::print_json(&DoctorJson {
            severity,
            findings: &findings,
        })?;
    } else {
        output::print(&render(&findings))?;
    }
    Ok(match severity {
        Severity::Error => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    })
}

fn render(findings: &[Finding]) -> String {
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

/// Checks whether the configuration of this directory can be read.
fn check_configuration(globals: &Globals) -> Finding {
    const CHECK: &str = "configuration";
    match config::read_files(globals) {
        Ok(files) if files.is_empty() => {
            Finding::ok(CHECK, "configuration: no file applies to this directory")
        }
        Ok(files) => {
            let found = format!("configuration: {}", files.join(", "));
            match config::selection(globals).named_untrusted_reason() {
                None => Finding::ok(CHECK, found),
                Some(reason) => Finding::new(
                    CHECK,
                    Severity::Warning,
                    format!("{found}, which was named; {reason}"),
                )
                .advice("another user may choose what is executed; move the file to a directory that only you can write"),
            }
        }
        Err(error) => Finding::new(CHECK, Severity::Error, format!("configuration: {error}"))
            .advice("correct the file, or use --no-config"),
    }
}
