//! What procref needs of /proc and of the kernel beside semaphores, and what kind of machine this is.

use std::fs;
use std::path::Path;

use procref::{Error, Services};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::{Finding, Severity, text_of};

pub(super) fn look() -> Vec<Finding> {
    let mounts = text_of("/proc/self/mounts").unwrap_or_default();
    let mut findings = vec![proc(&mounts), pidfd(), children()];
    findings.extend(container());
    findings
}

fn proc(mounts: &str) -> Finding {
    const CHECK: &str = "proc";
    if let Err(error) = Services::open() {
        let advice = match error {
            Error::Proc { .. } => Some(
                "mount it for this pid namespace: `mount -t proc proc /proc`; with unshare(1), `--mount-proc`",
            ),
            Error::Namespaces { .. } => {
                Some("run procref in a child of this process; with unshare(1), `--fork`")
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
            format!("/proc is mounted with hidepid={value}: a service that runs as another user is refused"),
        )
        .advice("run services and clients as one user, or mount it without hidepid"),
        None => Finding::ok(CHECK, "/proc shows all processes"),
    }
}

/// What hides processes: `1`, `2`, or in newer kernels a word.
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

fn pidfd() -> Finding {
    const CHECK: &str = "pidfd";
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::ok(CHECK, "pidfds: a signal reaches the process that is meant, or nobody"),
        Err(error) => Finding::new(
            CHECK,
            Severity::Warning,
            format!(
                "there are no pidfds ({error}): start times are compared before each signal instead, and a \
                 service's end is looked for every 5 ms"
            ),
        )
        .advice("use Linux 5.3 or later, or a sandbox that allows pidfd_open"),
    }
}

fn children() -> Finding {
    const CHECK: &str = "children";
    match Path::new("/proc/thread-self/children").exists() {
        true => Finding::ok(CHECK, "/proc tells of children: a service ends with every process it has started"),
        false => Finding::new(
            CHECK,
            Severity::Warning,
            "/proc/thread-self/children is not there: of a service only its own process is stopped, and what \
             it leaves keeps the next start waiting",
        )
        .advice("use a kernel with CONFIG_PROC_CHILDREN"),
    }
}

fn container() -> Vec<Finding> {
    const CHECK: &str = "container";
    let Some(kind) = container_kind() else {
        return vec![Finding::ok(
            CHECK,
            "this is no container that it could be told from",
        )];
    };
    let mut findings = vec![Finding::new(
        CHECK,
        Severity::Note,
        format!(
            "this is a container ({kind}): it shares services with another one only if both share the IPC and \
             the pid namespace, and a runtime directory at the same path"
        ),
    )];
    let zombies = zombies_of_init();
    if zombies > 0 {
        let found = format!(
            "the first process of this container does not wait for its children: {zombies} have ended and \
             are still there, and supervisors would be as well"
        );
        let advice = "run the container with an init: `docker run --init`, `init: true` in Compose";
        findings.push(Finding::new(CHECK, Severity::Warning, found).advice(advice));
    }
    findings
}

fn container_kind() -> Option<String> {
    // Of another user's first process this cannot be read.
    let environment = text_of("/proc/1/environ").unwrap_or_default();
    let told = environment
        .split('\0')
        .find_map(|variable| variable.strip_prefix("container="));
    if let Some(kind) = told.filter(|kind| !kind.is_empty()) {
        return Some(kind.to_owned());
    }
    let marks = [("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman")];
    let mark = marks.iter().find(|(file, _)| Path::new(file).exists());
    mark.map(|(_, kind)| (*kind).to_owned())
}

fn zombies_of_init() -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| text_of(entry.path().join("stat").to_str()?));
    stats.filter(|stat| is_zombie_of_init(stat)).count()
}

fn is_zombie_of_init(stat: &str) -> bool {
    // The name in parentheses may hold anything, also a parenthesis.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_ascii_whitespace();
    (fields.next(), fields.next()) == (Some("Z"), Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_of_proc_tells_what_it_hides() {
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
    fn zombies_of_the_first_process_are_told_from_others() {
        assert!(is_zombie_of_init("5 (a) Z) Z 1 5 5"));
        assert!(!is_zombie_of_init("5 (a) S 1 5 5"));
        assert!(!is_zombie_of_init("5 (Z 1) Z 2 5 5"));
    }
}
