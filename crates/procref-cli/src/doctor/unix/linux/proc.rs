//! `/proc`, pidfds, and containers.

use std::fs;
use std::path::Path;

use procref::{Error, Services};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::text_of;
use crate::doctor::finding::{Finding, Severity};

pub(super) fn check() -> Vec<Finding> {
    let mounts = text_of("/proc/self/mounts").unwrap_or_default();
    let mut findings = vec![check_proc(&mounts), check_pidfd(), check_children()];
    findings.extend(check_container());
    findings
}

fn check_proc(mounts: &str) -> Finding {
    const CHECK: &str = "proc";
    if let Err(error) = Services::open() {
        let advice = match error {
            Error::Proc { .. } => Some(
                "mount /proc for this pid namespace: `mount -t proc proc /proc`, or `--mount-proc` of unshare(1)",
            ),
            Error::Namespaces { .. } => {
                Some("run procref in a child of this process, or use `--fork` of unshare(1)")
            }
            _ => None,
        };
        if let Some(advice) = advice {
            return Finding::new(CHECK, Severity::Error, error.to_string()).advice(advice);
        }
    }
    match hidepid(mounts) {
        Some(value) => Finding::new(
            CHECK,
            Severity::Note,
            format!("/proc is mounted with hidepid={value}: a service that runs as another user is rejected"),
        )
        .advice("run services and clients as one user, or mount /proc without hidepid"),
        None => Finding::ok(CHECK, "/proc shows all processes"),
    }
}

/// Returns the value of `hidepid` that hides processes: `1`, `2`, or a word in newer kernels.
fn hidepid(mounts: &str) -> Option<&str> {
    let proc = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(1) == Some("/proc"))?;
    let options = proc.split(' ').nth(3)?;
    let value = options
        .split(',')
        .find_map(|option| option.strip_prefix("hidepid="))?;
    (!matches!(value, "0" | "off")).then_some(value)
}

fn check_pidfd() -> Finding {
    const CHECK: &str = "pidfd";
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::ok(CHECK, "pidfds: a signal reaches the right process or no process"),
        Err(error) => Finding::new(
            CHECK,
            Severity::Warning,
            format!(
                "pidfds are not available ({error}): procref compares start times before each signal instead, and \
                 checks every 5 ms whether a service has exited"
            ),
        )
        .advice("use Linux 5.3 or later, or a sandbox that allows pidfd_open"),
    }
}

fn check_children() -> Finding {
    const CHECK: &str = "children";
    match Path::new("/proc/thread-self/children").exists() {
        true => Finding::ok(CHECK, "/proc lists children: procref stops a service with all of its descendants"),
        false => Finding::new(
            CHECK,
            Severity::Warning,
            "/proc/thread-self/children does not exist: procref stops only the service's own process, and its other \
             processes delay the next start",
        )
        .advice("use a kernel with CONFIG_PROC_CHILDREN"),
    }
}

fn check_container() -> Vec<Finding> {
    const CHECK: &str = "container";
    let Some(kind) = container_kind() else {
        return vec![Finding::ok(CHECK, "no sign of a container was found")];
    };
    let mut findings = vec![Finding::new(
        CHECK,
        Severity::Note,
        format!(
            "this is a container ({kind}): it shares services with another container only if both share the IPC \
             namespace, the pid namespace, and a runtime directory at the same path"
        ),
    )];
    let zombies = zombies_of_init();
    if zombies > 0 {
        let found = format!(
            "the first process of this container does not reap its children: there are {zombies} zombies, and \
             supervisors would become zombies as well"
        );
        let advice = "run the container with an init: `docker run --init`, `init: true` in Compose";
        findings.push(Finding::new(CHECK, Severity::Warning, found).advice(advice));
    }
    findings
}

fn container_kind() -> Option<String> {
    // The environment of another user's process cannot be read.
    let environment = text_of("/proc/1/environ").unwrap_or_default();
    let set = environment
        .split('\0')
        .find_map(|variable| variable.strip_prefix("container="));
    if let Some(kind) = set.filter(|kind| !kind.is_empty()) {
        return Some(kind.to_owned());
    }
    let marker_files = [("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")];
    let found = marker_files
        .iter()
        .find(|(file, _)| Path::new(file).exists());
    found.map(|(_, kind)| (*kind).to_owned())
}

fn zombies_of_init() -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| text_of(entry.path().join("stat").to_str()?));
    stats.filter(|stat| is_zombie_of_init(stat)).count()
}

fn is_zombie_of_init(stat: &str) -> bool {
    // The name in parentheses may have any character, including a parenthesis.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace();
    (fields.next(), fields.next()) == (Some("Z"), Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidepid_is_read_from_the_last_mount_of_proc() {
        for (mounts, expected) in [
            ("proc /proc proc rw,nosuid 0 0\n", None),
            ("proc /proc proc rw,hidepid=2 0 0\n", Some("2")),
            (
                "proc /proc proc rw,hidepid=invisible,gid=5 0 0\n",
                Some("invisible"),
            ),
            (
                "proc /proc proc rw,hidepid=2 0 0\nproc /proc proc rw 0 0\n",
                None,
            ),
            ("proc /proc proc rw,hidepid=0 0 0\n", None),
            ("", None),
        ] {
            assert_eq!(hidepid(mounts), expected, "{mounts}");
        }
    }

    #[test]
    fn only_zombies_of_the_first_process_are_counted() {
        assert!(is_zombie_of_init("5 (a) Z) Z 1 5 5"));
        assert!(!is_zombie_of_init("5 (a) S 1 5 5"));
        assert!(!is_zombie_of_init("5 (Z 1) Z 2 5 5"));
    }
}
