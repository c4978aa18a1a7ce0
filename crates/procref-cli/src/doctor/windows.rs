//! Windows: the runtime directory's access list, jobs, and whether this is Windows.

use std::env;
use std::path::{Path, PathBuf};

use super::{Finding, Severity, probe};

mod job;
mod runtime_dir;

/// What takes a dead process's references back.
pub(super) const CHECK: &str = "handles";
pub(super) const MECHANISM: &str = "counting of handles";

/// Where that is not so, and where it could not be tried.
pub(super) const WITHOUT: &str = "please report this version of Windows";
pub(super) const UNTRIED: &str =
    "see what Windows says, and whether a sandbox forbids named objects";

pub(super) fn look(runtime_dir: Option<&Path>) -> Vec<Finding> {
    let mut findings = vec![probe::look(), job::look()];
    findings.extend(runtime_dir::look(runtime_dir));
    findings.push(wine());
    findings
}

/// Only Wine has this program where Windows has its own.
fn wine() -> Finding {
    const CHECK: &str = "wine";
    let root = env::var_os("SystemRoot").map_or_else(|| r"C:\windows".into(), PathBuf::from);
    match root.join(r"system32\winecfg.exe").exists() {
        true => Finding::new(
            CHECK,
            Severity::Note,
            "this is Wine: procref's tests pass in it, and its limits are not those of Windows",
        ),
        false => Finding::ok(CHECK, "this is Windows, and not Wine"),
    }
}
