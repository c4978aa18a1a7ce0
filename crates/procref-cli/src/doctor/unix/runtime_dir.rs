//! The runtime directory: its owner, its file system, and the length of its path.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::text_of;
use crate::doctor::finding::{Finding, Severity, services};

const CHECK: &str = "runtime-directory";

/// The longest path of a Unix socket.
const SOCKET: usize = 107;

/// The length of `/projects/`, a project's directory, `/`, and a name like `.s.PGSQL.65535`.
const BELOW: usize = 10 + 33 + 1 + 14;

pub(super) fn check(named: Option<&Path>) -> Vec<Finding> {
    let (source, unused) = source(named);
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
    if length + BELOW > SOCKET {
        let found = format!(
            "runtime directory: its path has {length} bytes, so the name of a Unix socket in {{dir}} of a project's \
             service can have at most {}",
            SOCKET.saturating_sub(length + BELOW - 14)
        );
        let advice = "set a shorter path: PROCREF_RUNTIME_DIR or --runtime-dir";
        findings.push(Finding::new(CHECK, Severity::Warning, found).advice(advice));
    }
    findings
}

/// Returns which setting selects the directory, and a finding if `$XDG_RUNTIME_DIR` is set and not used.
///
/// The library makes the same choice but does not report its reason.
fn source(named: Option<&Path>) -> (&'static str, Option<Finding>) {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if named.is_some() {
        return ("set by --runtime-dir", None);
    }
    if set("PROCREF_RUNTIME_DIR").is_some() {
        return ("set by PROCREF_RUNTIME_DIR", None);
    }
    let Some(dir) = set("XDG_RUNTIME_DIR").map(PathBuf::from) else {
        return ("because XDG_RUNTIME_DIR is not set", None);
    };
    let own = rustix::process::geteuid().as_raw();
    let reason = match fs::metadata(&dir) {
        _ if dir.is_relative() => "it is a relative path".to_owned(),
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_dir() => "it is not a directory".to_owned(),
        Ok(metadata) if metadata.uid() != own => {
            let owner = metadata.uid();
            format!("it belongs to uid {owner}, and this process runs as uid {own}")
        }
        Ok(_) => return ("set by XDG_RUNTIME_DIR", None),
    };
    let found = format!(
        "runtime directory: XDG_RUNTIME_DIR, {}, is not used: {reason}",
        dir.display()
    );
    let advice = "log in as this user (`su -`, `sudo -i`), or set PROCREF_RUNTIME_DIR, to share services with \
                  processes that have another XDG_RUNTIME_DIR";
    let finding = Finding::new(CHECK, Severity::Note, found).advice(advice);
    ("because XDG_RUNTIME_DIR cannot be used", Some(finding))
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

fn file_system(dir: &Path) -> Option<String> {
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    let existing = existing.canonicalize().ok()?;
    file_system_in(&text_of("/proc/self/mountinfo")?, &existing)
}

/// Returns the type of the file system that a path is on.
///
/// In [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html), the fifth field is the
/// mount point, and the first field after ` - ` is the type. Of several mounts that cover a path equally, the last one
/// counts.
fn file_system_in(mounts: &str, dir: &Path) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let (mount, source) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        if dir.starts_with(&point) && found.is_none_or(|(length, _)| length <= point.len()) {
            found = Some((point.len(), source.split(' ').next()?));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_is_that_of_the_innermost_last_mount() {
        let mounts = "\
            22 1 0:21 / / rw,relatime - overlay overlay rw\n\
            23 22 0:22 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n\
            24 23 0:23 / /run/user/my\\0401000 rw - nfs4 server:/x rw\n\
            25 22 0:24 / /run rw - ext4 /dev/sda rw\n";
        for (dir, kind) in [
            ("/tmp", "overlay"),
            ("/running", "overlay"),
            ("/run/x", "ext4"),
            ("/run/user/my 1000/procref", "nfs4"),
        ] {
            assert_eq!(
                file_system_in(mounts, Path::new(dir)).as_deref(),
                Some(kind),
                "{dir}"
            );
        }
    }
}
