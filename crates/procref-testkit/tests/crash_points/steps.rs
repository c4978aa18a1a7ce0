//! Whether every step that changes something has a point.

use std::fs;
use std::path::{Path, PathBuf};

/// How many lines after a step its point may stand.
const NEAR: usize = 16;

/// A comment above a step that begins like this says why it has none.
const NONE: &str = "No crash point";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../procref/src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The methods that a file declares with this before their names.
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

/// What changes nothing: it looks, or sleeps until somebody else has changed something.
const LOOKS: [&str; 15] = [
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
    // The way to an object, and the counter's, which has tests of its own.
    "open",
    "survey",
    "recount",
    "new",
];

fn changing_steps() -> Vec<String> {
    let contract = methods("kernel.rs", "fn ");
    let bare = methods("kernel/semset/signal_safe.rs", "pub(crate) async fn ");
    let mut steps = [contract, bare].concat();
    assert!(steps.len() > 30, "{steps:?}");
    steps.retain(|step| !LOOKS.contains(&step.as_str()));
    steps
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("read the directory");
    let paths = entries.map(|entry| entry.expect("read an entry").path());
    let (dirs, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let inner = dirs.iter().flat_map(|dir| rust_files(dir));
    files.into_iter().chain(inner).collect()
}

/// A step that the engine or a supervisor takes on the kernel object, and no point after it: nobody ever
/// dies there in these tests.
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
