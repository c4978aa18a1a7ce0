//! Checks that every kernel step that changes something has a crash point.

use std::fs;
use std::path::{Path, PathBuf};

/// Maximum number of lines from a step to its crash point.
const NEAR: usize = 16;

/// Part of a comment, in lower case, that states why the step below it has no crash point.
const NONE: &str = "no crash point";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../procref/src")
}

/// The source files of the code that runs in a supervisor.
fn supervisor_sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../procref-supervisor/src")
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
const READS: [&str; 16] = [
    "snapshot",
    "sleepers",
    "wait_unlocked",
    "wait_unlocked_within",
    "wait_removed",
    "wait_tree_exited",
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
    let signal_safe = "../../procref-supervisor/src/semset/signal_safe.rs";
    let signal_safe = methods(signal_safe, "pub async fn ");
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

/// The file whose methods take or release the reference and the lock. Each method gets its crash
/// point as an argument.
const TRANSITION: &str = "engine/transition.rs";

/// Returns `true` if a line calls one of these steps on a kernel object.
fn calls_step(lines: &[&str], number: usize, steps: &[String]) -> bool {
    let line = lines[number];
    if line.trim_start().starts_with("//") {
        return false;
    }
    let objects = ["object", "set", "opened()?"];
    let before = lines[..number].last().map_or("", |line| line.trim_end());
    steps.iter().any(|step| {
        let here = |object: &&str| line.contains(&format!("{object}.{step}("));
        let continued = line.trim_start().starts_with(&format!(".{step}("));
        objects.iter().any(here)
            || (continued && objects.iter().any(|object| before.ends_with(object)))
    })
}

/// Returns `true` if a comment right above a line says why the step has no point.
fn is_excepted(lines: &[&str], number: usize) -> bool {
    let above = &lines[number.saturating_sub(3)..number];
    above.iter().any(|line| line.to_lowercase().contains(NONE))
}

/// Checks each changing step of the engine and of a supervisor. If a step has no crash point, no
/// process ever dies there in these tests.
///
/// In `transition.rs` the point is an argument, so the same method must call `crash::point`. In
/// other files the name of the point must be near the step. No other file may take a step that
/// `transition.rs` has.
#[test]
fn changing_kernel_steps_all_have_a_crash_point() {
    let steps = changing_steps();
    let transition = read(&sources().join(TRANSITION));
    let typed = |step: &&String| transition.contains(&format!("opened()?.{step}("));
    let typed: Vec<_> = steps.iter().filter(typed).cloned().collect();
    assert!(typed.len() > 10, "{typed:?}");
    let mut files = Vec::new();
    for module in ["engine", "launch", "service", "supervisor"] {
        files.extend(rust_files(&sources().join(module)));
        files.push(sources().join(module).with_extension("rs"));
    }
    files.push(supervisor_sources().join("life.rs"));
    files.extend(rust_files(&supervisor_sources().join("forked")));
    let mut found = 0;
    let mut missing = Vec::new();
    for file in files {
        let text = read(&file);
        let lines: Vec<_> = text.lines().collect();
        let is_transition = file.ends_with(TRANSITION);
        let is_client = ["engine", "service"].iter().any(|module| {
            let module = sources().join(module);
            file.starts_with(&module) || file == module.with_extension("rs")
        });
        for (number, line) in lines.iter().enumerate() {
            // A step of `transition.rs` without a point needs a reason, too.
            let unlocks_without_point = line.contains(".unlock(None)");
            if !unlocks_without_point && !calls_step(&lines, number, &steps) {
                continue;
            }
            found += 1;
            let after = &lines[number..];
            let has_point = if unlocks_without_point {
                false
            } else if is_transition {
                let mut method = after.iter().take_while(|line| **line != "    }");
                method.any(|line| line.contains("crash::point"))
            } else if is_client && calls_step(&lines, number, &typed) {
                false
            } else {
                let mut near = after.iter().take(NEAR);
                near.any(|line| line.contains("Point::"))
            };
            if !has_point && !is_excepted(&lines, number) {
                missing.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert!(
        found > 30,
        "only {found} steps were found, so the test is broken"
    );
    assert!(
        missing.is_empty(),
        "steps without a crash point, or outside `{TRANSITION}`:\n{}",
        missing.join("\n")
    );
}
