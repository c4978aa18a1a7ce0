//! `doctor`.

use serde_json::Value;

use crate::sandbox::{Sandbox, SpawnPiped as _, arg, finish, procref};

fn findings(text: &str) -> Value {
    let report: Value = serde_json::from_str(text).unwrap();
    report["findings"].clone()
}

fn severity<'a>(findings: &'a Value, check: &str) -> &'a str {
    let findings = findings.as_array().unwrap();
    let found = findings.iter().find(|it| it["check"] == check);
    found.unwrap_or_else(|| panic!("no finding {check}: {findings:?}"))["severity"]
        .as_str()
        .unwrap()
}

#[test]
fn doctor_reports_no_problem_on_a_working_machine() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.run_db();
    let done = finish(command.args(["--", "cmd", "/c", "exit 0"]).spawn_piped());
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = sandbox.run(["doctor", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let found = findings(&done.out);
    for check in ["handles", "runtime-directory", "configuration"] {
        assert_eq!(severity(&found, check), "ok", "{found}");
    }
    let in_wine = r"C:\windows\system32\winecfg.exe";
    let expected = match std::path::Path::new(in_wine).exists() {
        true => "note",
        false => "ok",
    };
    assert_eq!(severity(&found, "wine"), expected);
}

/// A service runs in a job without breakaway. So if `doctor` itself runs as a service, it must report the
/// job.
#[test]
fn doctor_warns_about_a_job_without_breakaway() {
    let sandbox = Sandbox::new();
    let log = sandbox.path("log");
    let start = format!("\"{}\" doctor --json", procref().display());
    let mut command = sandbox.procref(["run", "doctor", "--start", &start, "--log", &arg(&log)]);
    command.args(["--ready", "log:severity", "--", "cmd", "/c", "exit 0"]);
    let done = finish(command.spawn_piped());
    let text = std::fs::read_to_string(&log).unwrap();
    let report = text.lines().find(|line| line.starts_with('{'));
    let found = findings(report.unwrap_or_else(|| panic!("{text}, {done:?}")));
    assert_eq!(severity(&found, "job"), "warning", "{found}");
}
