//! Checks for Windows: jobs, the access list of the runtime directory, and Wine.

use std::env;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Severity};
use super::probe::{self, Mechanism};

mod job;
mod runtime_dir;

const HANDLES: Mechanism = Mechanism {
    check: "handles",
    name: "counting of handles",
    if_broken: "please report this version of Windows",
    if_unchecked: "see the error of Windows, and check whether a sandbox forbids named objects",
};

pub(super) fn check(runtime_dir: Option<&Path>) -> Vec<Finding> {
    let mut findings = vec![
        probe::finding(&HANDLES, probe::check_with(probe::count_around_kill)),
        job::check(),
    ];
    findings.extend(runtime_dir::check(runtime_dir));
    findings.push(check_wine());
    findings
}

/// Detects Wine by a program that Windows does not have.
fn check_wine() -> Finding {
    const CHECK: &str = "wine";
    let root = env::var_os("SystemRoot").map_or_else(|| r"C:\windows".into(), PathBuf::from);
    match root.join(r"system32\winecfg.exe").exists() {
        true => Finding::new(
            CHECK,
            Severity::Note,
            "this is Wine: procref's tests pass on it, but its limits differ from those of Windows",
        ),
        false => Finding::ok(CHECK, "this is Windows and not Wine"),
    }
}
