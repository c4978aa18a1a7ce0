//! What this process sees of the machine: which pids, which clock, which semaphore sets.

use std::fs;
use std::io;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::process::View;

/// [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html) of a thread. A thread can have an
/// IPC namespace that others of its process do not have.
const NAMESPACES: &str = "/proc/thread-self/ns";

/// The pid, IPC and time namespaces of the calling thread, whose children will have the same ones.
///
/// # Errors
///
/// `/proc` is missing or shows the processes of another pid namespace. Or the next child of this process would
/// be in another pid or time namespace than the process: a supervisor is such a child, and would compare pids
/// and start times that mean something else to it.
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

/// Device and inode of a namespace, or zeros if this kernel has none of that kind.
///
/// The kernel gives an inode to another namespace only after the last process of the first one has ended. A
/// record from before names a process that has ended, and its start time tells it from later ones.
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
        // The link of a pid namespace that has no process yet leads nowhere, but it is there. Kernels without
        // such namespaces have no link.
        Err(Errno::NOENT) => rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).is_ok(),
        Err(error) => return Err(unreadable(&path, error.into())),
    };
    if !pending {
        return Ok(());
    }
    Err(Error::Namespaces {
        reason: format!(
            "its children will be in another {kind} namespace than itself; use procref in such a child \
             (with unshare(1), `--fork`)"
        ),
    })
}

/// Whether `/proc` is that of the pid namespace that this process is in.
///
/// The process's number is looked up there. It is not enough to find it: a process has a number in its own pid
/// namespace and in each one above, and two of them can be equal. So there must be one number and no other.
fn check_proc() -> Result<()> {
    let wrong = |reason: &str| Error::Proc {
        reason: format!(
            "{reason} (mount one for this pid namespace: `mount -t proc proc /proc`, or with unshare(1) \
             `--mount-proc`)"
        ),
        source: None,
    };
    let status = match fs::read_to_string("/proc/self/status") {
        Ok(status) => status,
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

/// Whether a process's status says that it has this pid and is in no pid namespace below the one of `/proc`.
///
/// `NSpid` lists the numbers from the namespace of `/proc` down to the process's own (Linux 4.1).
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
    fn a_view_is_the_same_as_long_as_the_process_stays() {
        let first = view().expect("this process can share services");
        assert_eq!(view().expect("likewise"), first);
        let pid = rustix::fs::stat("/proc/self/ns/pid").expect("Linux has pid namespaces");
        assert_eq!((first.0[0], first.0[1]), (pid.st_dev, pid.st_ino));
    }

    #[test]
    fn g5_status_of_another_pid_namespace_is_not_ones_own() {
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
