//! The runtime directory: whose it is, on what it is, and whether there is room for sockets in its path.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::text_of;
use crate::doctor::{Finding, Severity, services};

const CHECK: &str = "runtime-directory";

/// The longest path of a Unix socket.
const SOCKET: usize = 107;

/// `/projects/`, a project's directory, `/`, and a name like `.s.PGSQL.65535`.
const BELOW: usize = 10 + 33 + 1 + 14;

pub(super) fn look(named: Option<&Path>) -> Vec<Finding> {
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
                "runtime directory: {shown} ({source}), of uid {}, mode {:04o}, on {}",
                metadata.uid(),
                metadata.mode() & 0o7777,
                file_system(dir).unwrap_or_else(|| "an unknown file system".to_owned())
            ),
        ),
        Err(_) => creatable(dir, source),
    }];
    findings.extend(unused);
    findings.extend(network(dir));
    let length = dir.as_os_str().len();
    if length + BELOW > SOCKET {
        let found = format!(
            "runtime directory: its path has {length} bytes, which leaves a project's services {} for the name \
             of a Unix socket in {{dir}}",
            SOCKET.saturating_sub(length + BELOW - 14)
        );
        let advice = "choose a shorter one: PROCREF_RUNTIME_DIR, or --runtime-dir";
        findings.push(Finding::new(CHECK, Severity::Warning, found).advice(advice));
    }
    findings
}

/// Returns which setting chooses the directory, and a finding if `$XDG_RUNTIME_DIR` is set and not used.
fn source(named: Option<&Path>) -> (&'static str, Option<Finding>) {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if named.is_some() {
        return ("by --runtime-dir", None);
    }
    if set("PROCREF_RUNTIME_DIR").is_some() {
        return ("by PROCREF_RUNTIME_DIR", None);
    }
    let Some(dir) = set("XDG_RUNTIME_DIR").map(PathBuf::from) else {
        return ("as XDG_RUNTIME_DIR is not set", None);
    };
    let own = rustix::process::geteuid().as_raw();
    let reason = match fs::metadata(&dir) {
        _ if dir.is_relative() => "it is a relative path".to_owned(),
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_dir() => "it is not a directory".to_owned(),
        Ok(metadata) if metadata.uid() != own => {
            let owner = metadata.uid();
            format!("it belongs to uid {owner}, and this process is uid {own}")
        }
        Ok(_) => return ("by XDG_RUNTIME_DIR", None),
    };
    let found = format!(
        "runtime directory: XDG_RUNTIME_DIR, {}, is not used: {reason}",
        dir.display()
    );
    let advice = "log in as this user (`su -`, `sudo -i`), or set PROCREF_RUNTIME_DIR, to share services with \
                  the processes that have another value";
    let finding = Finding::new(CHECK, Severity::Note, found).advice(advice);
    ("as XDG_RUNTIME_DIR cannot be used", Some(finding))
}

/// One that is not there yet: whether it can be made.
fn creatable(dir: &Path, source: &str) -> Finding {
    let shown = dir.display();
    let above = dir.ancestors().skip(1).find(|dir| dir.exists());
    let writable = above.is_some_and(|above| {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(above, access).is_ok()
    });
    match writable {
        true => Finding::ok(
            CHECK,
            format!("runtime directory: {shown} ({source}), which the first service creates"),
        ),
        false => Finding::new(
            CHECK,
            Severity::Error,
            format!(
                "runtime directory: {shown} ({source}) is not there, and cannot be created by this user"
            ),
        )
        .advice("name another one: PROCREF_RUNTIME_DIR, or --runtime-dir"),
    }
}

/// Records of other machines' services, and sockets that lead nowhere.
fn network(dir: &Path) -> Option<Finding> {
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
        "runtime directory: {} is on {kind}, which other machines see as well",
        dir.display()
    );
    let advice = "choose a local one: PROCREF_RUNTIME_DIR, or --runtime-dir";
    Some(Finding::new(CHECK, Severity::Warning, found).advice(advice))
}

fn file_system(dir: &Path) -> Option<String> {
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    let existing = existing.canonicalize().ok()?;
    file_system_in(&text_of("/proc/self/mountinfo")?, &existing)
}

/// [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html): the fifth field is
/// the mount point, and the first one behind ` - ` the kind of file system. The last that covers a path is
/// the one on top.
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
    fn the_innermost_and_topmost_mount_counts() {
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
