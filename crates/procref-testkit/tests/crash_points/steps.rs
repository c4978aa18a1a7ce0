//! Checks that every kernel step that changes something has a crash point.

use std::fs;
use std::path::{Path, PathBuf};

/// Maximum number of lines from a step to its crash point.
const NEAR: usize = 16;

/// Beginning of a comment that says why the step below it has no crash point.
const NONE: &str = "No crash point";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../procref/src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lists the methods that `file` declares with `before` in front of their names.
fn methods(file: &str, before: &str) -> Vec<String> {
    let text = read(&sources().join(file));
    let names = text.lines().filter_map(|line| {
        let name = line
            .trim_start()
            .strip_prefix(before)?
            .split(['(', '<'])
            .next()?;
        Some(name.to_owned())
    });
    names.collect()
}

/// Methods that change nothing: they read, or sleep until another process changes something.
const READS: [&str; 15] = [
    "snapshot",
    "sleepers",
    "wait_unlocked",
    "wait_unlocked_within",
    "wait_removed",
    "lock_holder",
    "supervisor",
    "is_instance",
    "inspect",
    "wait_alone",
    "wait_client",
    // Constructors, and the steps of the counter, which has its own tests.
    "open",
    "survey",
    "recount",
    "new",
];

fn changing_steps() -> Vec<String> {
    let contract = methods("kernel.rs", "fn ");
    let signal_safe = methods("kernel/semset/signal_safe.rs", "pub(crate) async fn ");
    let mut steps = [contract, signal_safe].concat();
    assert!(steps.len() > 30, "{steps:?}");
    steps.retain(|step| !READS.contains(&step.as_str()));
    steps
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("read the directory");
    let paths = entries.map(|entry| entry.expect("read an entry").path());
    let (dirs, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let inner = dirs.iter().flat_map(|dir| rust_files(dir));
    files.into_iter().chain(inner).collect()
}

/// If the engine or a supervisor takes a step on the kernel object without a crash point after it,
/// no process ever dies there in these tests.
#[test]
fn changing_kernel_steps_all_have_a_crash_point() {
    let steps = changing_steps();
    let mut files = Vec::new();

    for module in ["engine", "launch", "service", "supervisor"] {
        files.extend(rust_files(&sources().join(module)));
        files.push(sources().join(module).with_extension("rs"));
    }
    let mut found = 0;
    let mut missing = Vec::new();
    for file in files {
        let text = read(&file);
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let called = |step: &String| {
                ["object.", "set."]
                    .iter()
                    .any(|on| line.contains(&format!("{on}{step}(")))
                    || (line.trim_start().starts_with(&format!(".{step}("))
                        && lines[number - 1].trim_end().ends_with("object"))
            };
            if line.trim_start().starts_with("//") || !steps.iter().any(called) {
                continue;
            }
            found += 1;
            if lines[number.saturating_sub(3)..number]
                .iter()
                .any(|line| line.contains(NONE))
            {
                continue;
            }
            let after = &lines[number..lines.len().min(number + NEAR)];
            if !after.iter().any(|line| line.contains("Point::")) {
                missing.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(found > 30, "only {found} steps found: the test is broken");
    assert!(
        missing.is_empty(),
        "steps without a point:\n{}",
        missing.join("\n")
    );
}
