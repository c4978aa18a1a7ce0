//! Linux: semaphores, `/proc`, pidfds, and who might remove what is needed.

use std::env;
use std::fs;
use std::path::Path;

use super::{Finding, Severity, probe};

mod logind;
mod proc;
mod runtime_dir;
mod semaphores;

/// What takes a dead process's references back.
pub(super) const CHECK: &str = "undo";
pub(super) const MECHANISM: &str = "SEM_UNDO";

/// Where that is not so, and where it could not be tried.
pub(super) const WITHOUT: &str = "gVisor is known for that, use another runtime";
pub(super) const UNTRIED: &str =
    "see the other findings, and whether a sandbox forbids semget, semop or semctl";

pub(super) fn look(runtime_dir: Option<&Path>) -> Vec<Finding> {
    let mut findings = semaphores::look();
    findings.push(probe::look());
    findings.extend(runtime_dir::look(runtime_dir));
    findings.extend(proc::look());
    findings.extend(logind::look());
    findings
}

/// A file of the kernel's, or of the system's; `None` where it is not there or cannot be read.
fn text_of(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn user_name() -> Option<String> {
    env::var("USER").ok().filter(|name| !name.is_empty())
}
