//! Checks for macOS: the keeper, and the runtime directory.

use std::env;
use std::ffi::CStr;
use std::path::Path;

use super::runtime_dir;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::probe::{self, Mechanism};

/// The longest path of a Unix socket.
pub(super) const SOCKET: usize = 103;

const KEEPER: Mechanism = Mechanism {
    check: "undo",
    name: "keeper",
    if_broken: "report this as a fault of procref",
    if_unchecked: "see the other findings, and check whether a sandbox forbids Unix sockets, or whether PROCREF_HELPER \
                   names a program that does not contain procref",
};

pub(in crate::doctor) fn check(runtime_dir: Option<&Path>) -> Vec<Finding> {
    let counted = probe::check_with(probe::count_around_kill);
    let mut findings = vec![
        Finding::ok("kernel", "kernel: keepers, as always on macOS"),
        probe::finding(&KEEPER, counted),
    ];
    findings.extend(runtime_dir::check(runtime_dir));
    findings
}

/// Returns which setting selects the directory, and a finding about the default.
pub(super) fn source(named: Option<&Path>) -> (&'static str, Option<Finding>) {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    match named {
        Some(_) => return ("set by --runtime-dir", None),
        None if is_set("PROCREF_RUNTIME_DIR") => return ("set by PROCREF_RUNTIME_DIR", None),
        None => {}
    }
    let found =
        "runtime directory: macOS removes temporary files that were not used for three days";
    let advice = "set PROCREF_RUNTIME_DIR to another directory if a service runs longer than that";
    let finding = Finding::new("runtime-directory", Severity::Note, found).advice(advice);
    ("the default for this user", Some(finding))
}

/// Returns the type of the file system that a path is on.
pub(super) fn file_system(existing: &Path) -> Option<String> {
    let found = rustix::fs::statfs(existing).ok()?;
    let name = found.f_fstypename.map(|byte| byte.to_ne_bytes()[0]);
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    Some(name.to_string_lossy().into_owned())
}
