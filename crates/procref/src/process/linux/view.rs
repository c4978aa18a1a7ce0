//! The view of this process: its pids, its clock and its semaphore sets.

use std::fs;
use std::io;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::file::read_proc;
use crate::process::View;

/// The [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html) of this thread. A thread can be in
/// another IPC namespace than the rest of its process.
const NAMESPACES: &str = "/proc/thread-self/ns";

/// Returns the pid, IPC and time namespaces of this thread, which are also those of its children.
///
/// # Errors
///
/// `/proc` is missing or shows another pid namespace. Or the next child of this process would be in another pid or
/// time namespace than the process. A supervisor is such a child: pids and start times would have another meaning
/// there.
pub(crate) fn view() -> Result<View> {
    check_proc()?;
    let [pid, ipc, time] = ["pid", "ipc", "time"].map(namespace);
    let (pid, time) = (pid?, time?);
    for (kind, own) in [("pid", pid), ("time", time)] {
        check_children(kind, own)?;
    }
    let [(a, b), (c, d), (e, f)] = [pid, ipc?, time];
    Ok(View([a, b, c, d, e, f]))
}

/// Returns device and inode of a namespace, or zeros if this kernel has no such namespaces.
///
/// The kernel reuses an inode only after the last process of the namespace has exited. An older record names
/// a process that has exited, whose start time distinguishes it from later processes.
fn namespace(kind: &str) -> Result<(u64, u64)> {
    let path = format!("{NAMESPACES}/{kind}");
    match rustix::fs::stat(&path) {
        Ok(stat) => Ok((stat.st_dev, stat.st_ino)),
        Err(Errno::NOENT) => Ok((0, 0)),
        Err(error) => Err(unreadable(&path, error.into())),
    }
}

fn check_children(kind: &'static str, own: (u64, u64)) -> Result<()> {
    let path = format!("{NAMESPACES}/{kind}_for_children");
    let pending = match rustix::fs::stat(&path) {
        Ok(stat) => (stat.st_dev, stat.st_ino) != own,
        // If a pid namespace has no process yet, the link exists but leads nowhere. Kernels without such namespaces
        // have no link.
        Err(Errno::NOENT) => rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).is_ok(),
        Err(error) => return Err(unreadable(&path, error.into())),
    };
    if !pending {
        return Ok(());
    }
    Err(Error::Namespaces {
        reason: format!(
            "children of this process will be in another {kind} namespace; use procref in such a child \
             (with unshare(1), `--fork`)"
        ),
    })
}

/// Checks that `/proc` belongs to the pid namespace of this process.
///
/// It is not sufficient to find this process's pid in `/proc`. A process has a pid in its own namespace and
/// in each parent namespace, and two of these pids can be equal. So this process must have exactly one pid in
/// `/proc`.
fn check_proc() -> Result<()> {
    let wrong = |reason: &str| Error::Proc {
        reason: format!(
            "{reason} (mount one for this pid namespace: `mount -t proc proc /proc`, or with unshare(1) \
             `--mount-proc`)"
        ),
        source: None,
    };
    let status = match read_proc("/proc/self/status") {
        // The name of the program, which is not used, may contain any bytes.
        Ok(status) => String::from_utf8_lossy(&status).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(wrong(match fs::exists("/proc/version") {
                Ok(true) => "it shows the processes of another pid namespace, and not this process",
                _ => "it is not mounted",
            }));
        }
        Err(error) => return Err(unreadable("/proc/self/status", error)),
    };
    if is_own(&status, std::process::id()) {
        return Ok(());
    }
    Err(wrong("it shows the processes of another pid namespace"))
}

fn unreadable(path: &str, error: io::Error) -> Error {
    Error::Proc {
        reason: format!("could not read {path}: {error}"),
        source: Some(error),
    }
}

/// Returns `true` if, according to its status, a process has this pid and is in the pid namespace of `/proc`.
///
/// `NSpid` lists the pids from the namespace of `/proc` down to the process's own (Linux 4.1).
fn is_own(status: &str, pid: u32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let numbers = field("NSpid:").or_else(|| field("Pid:")).unwrap_or("");
    let mut numbers = numbers.split_ascii_whitespace().map(str::parse);
    numbers.next() == Some(Ok(pid)) && numbers.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_is_stable_while_namespaces_stay() {
        let first = view().expect("this process can share services");
        assert_eq!(view().expect("this process can share services"), first);
        let pid = rustix::fs::stat("/proc/self/ns/pid").expect("Linux has pid namespaces");
        assert_eq!((first.0[0], first.0[1]), (pid.st_dev, pid.st_ino));
    }

    #[test]
    fn g5_status_of_another_pid_namespace_is_foreign() {
        for (status, own) in [
            ("Name:\tx\nPid:\t7\nNSpid:\t7\n", true),
            ("Pid:\t7\n", true),
            ("Pid:\t907\nNSpid:\t907\t7\n", false),
            ("Pid:\t7\nNSpid:\t7\t7\n", false),
            ("Pid:\t8\nNSpid:\t8\n", false),
            ("Pid:\t8\n", false),
            ("", false),
        ] {
            assert_eq!(is_own(status, 7), own, "{status:?}");
        }
    }
}
