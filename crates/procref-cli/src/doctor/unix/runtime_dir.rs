//! The runtime directory: its owner, its file system, and the length of its path.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::sys;
use crate::doctor::finding::{Finding, Severity, services};

const CHECK: &str = "runtime-directory";

/// The length of `/projects/`, a project's directory, `/`, and a name like `.s.PGSQL.65535`.
const BELOW: usize = 10 + 33 + 1 + 14;

pub(super) fn check(named: Option<&Path>) -> Vec<Finding> {
    let (source, unused) = sys::source(named);
    let services = match services(CHECK, named) {
        Ok(services) => services,
        Err(found) => return std::iter::once(found).chain(unused).collect(),
    };
    let dir = services.dir();
    let shown = dir.display();
    let mut findings = vec![match fs::symlink_metadata(dir) {
        Ok(metadata) => Finding::ok(
            CHECK,
            format!(
                "runtime directory: {shown} ({source}), owner uid {}, mode {:04o}, on {}",
                metadata.uid(),
                metadata.mode() & 0o7777,
                file_system(dir).unwrap_or_else(|| "an unknown file system".to_owned())
            ),
        ),
        Err(_) => check_creatable(dir, source),
    }];
    findings.extend(unused);
    findings.extend(check_network(dir));
    let length = dir.as_os_str().len();
    if length + BELOW > sys::SOCKET {
        let found = format!(
            "runtime directory: its path has {length} bytes, so the name of a Unix socket in {{dir}} of a project's \
             service can have at most {}",
            sys::SOCKET.saturating_sub(length + BELOW - 14)
        );
        let advice = "set a shorter path: PROCREF_RUNTIME_DIR or --runtime-dir";
        findings.push(Finding::new(CHECK, Severity::Warning, found).advice(advice));
    }
    findings
}

/// Checks whether a missing directory can be created.
fn check_creatable(dir: &Path, source: &str) -> Finding {
    let shown = dir.display();
    let above = dir.ancestors().skip(1).find(|dir| dir.exists());
    let writable = above.is_some_and(|above| {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(above, access).is_ok()
    });
    match writable {
        true => Finding::ok(
            CHECK,
            format!("runtime directory: {shown} ({source}); the first service creates it"),
        ),
        false => Finding::new(
            CHECK,
            Severity::Error,
            format!(
                "runtime directory: {shown} ({source}) does not exist, and this user cannot create it"
            ),
        )
        .advice("set another directory: PROCREF_RUNTIME_DIR or --runtime-dir"),
    }
}

/// Checks for a network file system. There, the directory would contain records of other machines' services,
/// and sockets that cannot be used.
fn check_network(dir: &Path) -> Option<Finding> {
    let kind = file_system(dir)?;
    let prefixes = [
        "nfs",
        "cifs",
        "smb",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "fuse.sshfs",
        "afs",
    ];
    if !prefixes.iter().any(|prefix| kind.starts_with(prefix)) {
        return None;
    }
    let found = format!(
        "runtime directory: {} is on {kind}, which other machines can use as well",
        dir.display()
    );
    let advice = "set a local directory: PROCREF_RUNTIME_DIR or --runtime-dir";
    Some(Finding::new(CHECK, Severity::Warning, found).advice(advice))
}

/// Returns the type of the file system that a path is on, or that it will be on.
fn file_system(dir: &Path) -> Option<String> {
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    sys::file_system(&existing.canonicalize().ok()?)
}
