//! Checks for Linux: semaphores, `/proc`, pidfds, and programs that may delete files or objects that procref
//! needs.

use std::env;
use std::fs;
use std::path::Path;

use super::finding::Finding;
use super::probe::{self, Mechanism};

mod logind;
mod proc;
mod runtime_dir;
mod semaphores;

const UNDO: Mechanism = Mechanism {
    check: "undo",
    name: "SEM_UNDO",
    if_broken: "gVisor has this fault: use another container runtime",
    if_unchecked: "see the other findings, and check whether a sandbox forbids semget, semop or semctl",
};

pub(super) fn check(runtime_dir: Option<&Path>) -> Vec<Finding> {
    let mut findings = semaphores::check();
    findings.push(probe::check(&UNDO));
    findings.extend(runtime_dir::check(runtime_dir));
    findings.extend(proc::check());
    findings.extend(logind::check());
    findings
}

/// Returns the text of a file of the kernel or the system, or `None` if it cannot be read.
fn text_of(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn user_name() -> Option<String> {
    env::var("USER").ok().filter(|name| !name.is_empty())
}
