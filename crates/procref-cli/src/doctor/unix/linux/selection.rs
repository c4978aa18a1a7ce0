//! Which setting selects the runtime directory, and the file system that it is on.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::text_of;
use crate::doctor::finding::{Finding, Severity};

const CHECK: &str = "runtime-directory";

/// Returns which setting selects the directory, and a finding if `$XDG_RUNTIME_DIR` is set and not used.
///
/// The library makes the same choice but does not report its reason.
pub(in crate::doctor::unix) fn source(named: Option<&Path>) -> (&'static str, Option<Finding>) {
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

/// Returns the type of the file system that a path is on.
pub(in crate::doctor::unix) fn file_system(existing: &Path) -> Option<String> {
    file_system_in(&text_of("/proc/self/mountinfo")?, existing)
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
