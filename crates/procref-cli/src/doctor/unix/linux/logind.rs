//! Checks the setting RemoveIPC of logind, which deletes the semaphore sets of a user at the last logout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{text_of, user_name};
use crate::doctor::finding::{Finding, Severity};

const CHECK: &str = "remove-ipc";

/// The directories with settings, in ascending priority. A drop-in replaces the drop-ins of the same name before it.
const DIRS: [&str; 4] = [
    "/usr/lib/systemd",
    "/usr/local/lib/systemd",
    "/run/systemd",
    "/etc/systemd",
];

/// The lowest uid of a person. logind does not delete the semaphore sets of system users.
const FIRST_USER: u32 = 1000;

pub(super) fn check() -> Vec<Finding> {
    if !Path::new("/run/systemd/seats").exists() {
        return vec![Finding::ok(
            CHECK,
            "RemoveIPC: no logind runs that could delete semaphore sets",
        )];
    }
    let uid = rustix::process::geteuid().as_raw();
    let removes = from_logind().or_else(from_files);
    vec![match removes {
        Some(false) => Finding::ok(CHECK, "RemoveIPC: logind does not delete semaphore sets"),
        _ if uid < FIRST_USER => Finding::ok(
            CHECK,
            format!(
                "RemoveIPC: logind does not delete the semaphore sets of system users such as uid {uid}"
            ),
        ),
        _ if lingers() => Finding::ok(
            CHECK,
            "RemoveIPC: lingering is enabled for this user, so logind deletes nothing at logout",
        ),
        Some(true) => {
            removed("RemoveIPC: logind deletes this user's semaphore sets at the last logout")
        }
        None => {
            removed("RemoveIPC: could not read whether logind deletes semaphore sets at logout")
        }
    }]
}

fn removed(found: &str) -> Finding {
    Finding::new(
        CHECK,
        Severity::Warning,
        format!(
            "{found}; processes that run longer (`nohup`, timers of the user) lose their services"
        ),
    )
    .advice("run `loginctl enable-linger`, or set RemoveIPC=no in /etc/systemd/logind.conf.d/procref.conf")
}

/// Returns the setting from logind itself.
fn from_logind() -> Option<bool> {
    let output = Command::new("busctl")
        .args([
            "--timeout=2",
            "get-property",
            "org.freedesktop.login1",
            "/org/freedesktop/login1",
        ])
        .args(["org.freedesktop.login1.Manager", "RemoveIPC"])
        .output()
        .ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "b true" => Some(true),
        "b false" => Some(false),
        _ => None,
    }
}

/// Returns the setting from logind's files, or `None` if no file sets it. The default depends on the build of logind.
fn from_files() -> Option<bool> {
    let main = DIRS.map(|dir| PathBuf::from(dir).join("logind.conf"));
    let main = main.into_iter().rfind(|file| file.exists());
    let mut drop_ins = std::collections::BTreeMap::new();
    for dir in DIRS {
        let entries = fs::read_dir(Path::new(dir).join("logind.conf.d"));
        for entry in entries.into_iter().flatten().flatten() {
            drop_ins.insert(entry.file_name(), entry.path());
        }
    }
    let files = main.into_iter().chain(drop_ins.into_values());
    let texts = files.filter_map(|file| text_of(file.to_str()?));
    texts.filter_map(|text| setting(&text)).next_back()
}

fn setting(text: &str) -> Option<bool> {
    let mut values = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "RemoveIPC").then(|| value.trim().to_ascii_lowercase())
    });
    match values.next_back()?.as_str() {
        "yes" | "true" | "on" | "1" | "y" | "t" => Some(true),
        "no" | "false" | "off" | "0" | "n" | "f" => Some(false),
        _ => None,
    }
}

fn lingers() -> bool {
    let name = user_name();
    name.is_some_and(|name| Path::new("/var/lib/systemd/linger").join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_setting_of_a_file_counts() {
        for (text, expected) in [
            ("[Login]\n#RemoveIPC=yes\n", None),
            ("[Login]\nRemoveIPC=yes\nRemoveIPC = No\n", Some(false)),
            ("RemoveIPC=1", Some(true)),
            ("RemoveIPC=perhaps", None),
        ] {
            assert_eq!(setting(text), expected, "{text}");
        }
    }
}
