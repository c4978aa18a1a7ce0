//! logind's RemoveIPC, which deletes the semaphore sets of a user who has logged out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Finding, Severity, text_of, user_name};

const CHECK: &str = "remove-ipc";

/// In the order in which they count: a later file wins, and a drop-in of the same name replaces an earlier one.
const DIRS: [&str; 4] = [
    "/usr/lib/systemd",
    "/usr/local/lib/systemd",
    "/run/systemd",
    "/etc/systemd",
];

/// Users below are the system's own, and are left alone.
const FIRST_USER: u32 = 1000;

pub(super) fn look() -> Vec<Finding> {
    if !Path::new("/run/systemd/seats").exists() {
        return vec![Finding::ok(
            CHECK,
            "RemoveIPC: there is no logind that could delete semaphore sets",
        )];
    }
    let uid = rustix::process::geteuid().as_raw();
    let removes = told().or_else(configured);
    vec![match removes {
        Some(false) => Finding::ok(CHECK, "RemoveIPC: logind leaves semaphore sets alone"),
        _ if uid < FIRST_USER => Finding::ok(
            CHECK,
            format!("RemoveIPC: logind leaves those of system users such as uid {uid} alone"),
        ),
        _ if lingers() => Finding::ok(
            CHECK,
            "RemoveIPC: this user lingers, so nothing is deleted at logout",
        ),
        Some(true) => {
            removed("RemoveIPC: logind deletes this user's semaphore sets at the last logout")
        }
        None => removed(
            "RemoveIPC: it is not to be seen whether logind deletes semaphore sets at logout",
        ),
    }]
}

fn removed(found: &str) -> Finding {
    Finding::new(
        CHECK,
        Severity::Warning,
        format!(
            "{found}; what runs on after it (`nohup`, a user's timers) is cut off from its services"
        ),
    )
    .advice("`loginctl enable-linger`, or RemoveIPC=no in /etc/systemd/logind.conf.d/procref.conf")
}

/// What logind itself says.
fn told() -> Option<bool> {
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

/// What its files say. `None`: nothing, and what holds then was chosen when it was built.
fn configured() -> Option<bool> {
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
    fn the_last_setting_counts() {
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
