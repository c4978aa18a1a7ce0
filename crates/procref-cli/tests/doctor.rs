//! `procref doctor`: its findings on a working machine, and one test for each problem.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use procref_testkit::kernel;
use serde_json::Value;
use support::{
    PROCREF, copy_environment, output_text, user_namespace,
    workspace::{Project, Workspace},
};

/// Returns the exit code, and the findings of this check as `severity: found`.
fn findings(command: &mut Command, check: &str) -> (i32, Vec<String>) {
    let output = command.output().expect("run doctor");
    let (out, err) = output_text(&output);
    let report: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let found = report["findings"].as_array().expect("a list").iter();
    let of_check = found.filter(|finding| finding["check"] == check);
    let findings = of_check.map(|finding| {
        let severity = finding["severity"].as_str().expect("a text");
        if matches!(severity, "warning" | "error") && check != "runtime-directory" {
            assert!(finding["advice"].is_string(), "{finding} has no advice");
        }
        format!("{severity}: {}", finding["found"].as_str().expect("a text"))
    });
    (
        output.status.code().expect("an exit code"),
        findings.collect(),
    )
}

fn doctor(project: &Project<'_>) -> Command {
    project.procref(&["doctor", "--json"])
}

#[test]
fn doctor_reports_ok_on_a_working_machine() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let text = project.output(&["doctor"]);
    assert!(!text.contains("error"), "{text}");
    let kernel: &[&str] = match kernel::is_keeper() {
        true => &["kernel", "undo"],
        false => &["kernel", "semaphores", "undo"],
    };
    let checks = ["runtime-directory", "proc", "pidfd", "children"];
    for &check in kernel.iter().chain(&checks) {
        let (code, found) = findings(&mut doctor(&project), check);
        assert_eq!(code, 0);
        assert!(
            found.iter().any(|found| found.starts_with("ok: ")),
            "{check}: {found:?}"
        );
    }
    let (_, found) = findings(&mut doctor(&project), "configuration");
    assert!(found[0].contains("procref.toml"), "{found:?}");
}

#[test]
fn doctor_reports_low_semaphore_limits_as_errors() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    for (limits, expected) in [
        ("250 32000 8 128", "SEMOPM is 8"),
        ("100 32000 32 128", "SEMMSL is 100"),
        ("250 32000 32 0", "room for 0 services"),
    ] {
        let script =
            format!("echo '{limits}' >/proc/sys/kernel/sem && exec '{PROCREF}' doctor --json");
        let mut command = Command::new("unshare");
        command.args(["--ipc", "--fork"]).args(user_namespace());
        command.args(["sh", "-c", &script]);
        copy_environment(&doctor(&project), &mut command);
        let (code, found) = findings(&mut command, "semaphores");
        assert_eq!(code, 1, "{limits}");
        assert!(
            found
                .iter()
                .any(|found| found.starts_with("error: ") && found.contains(expected)),
            "{limits}: {found:?}"
        );
    }
}

#[test]
fn doctor_reports_unusable_runtime_directory_as_error() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    fs::create_dir(workspace.runtime_dir()).expect("create a directory");
    fs::set_permissions(workspace.runtime_dir(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let (code, found) = findings(&mut doctor(&project), "runtime-directory");
    assert_eq!(code, 1);
    assert!(
        found[0].starts_with("error: ") && found[0].contains("chmod 700"),
        "{found:?}"
    );
    fs::set_permissions(workspace.runtime_dir(), fs::Permissions::from_mode(0o700)).expect("chmod");
}

#[test]
fn doctor_warns_when_path_is_too_long_for_sockets() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let long = workspace.path(&"long".repeat(20));
    let mut command = doctor(&project);
    let (code, found) = findings(command.arg("--runtime-dir").arg(long), "runtime-directory");
    assert_eq!(code, 0, "a long path is not an error");
    assert!(
        found.iter().any(|found| found.starts_with("warning: ")),
        "{found:?}"
    );
}

#[test]
fn doctor_reports_invalid_configuration_as_error() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.db]\n");
    let (code, found) = findings(&mut doctor(&project), "configuration");
    assert_eq!(code, 1);
    assert!(
        found[0].starts_with("error: ") && found[0].contains(":1:11: "),
        "{found:?}"
    );
}
