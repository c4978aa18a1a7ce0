//! G1 to G6 and G8 under everything at once: a short storm, which has to end well.

use std::path::PathBuf;
use std::process::Command;

fn program() -> PathBuf {
    // The compiler may have run on another system.
    std::path::absolute(env!("CARGO_BIN_EXE_storm")).expect("a path")
}

/// The figure that stands before this text.
fn figure(table: &str, what: &str) -> u64 {
    let row = table.lines().find(|line| line.trim_end().ends_with(what));
    let number = row.and_then(|row| row.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no figure of {what:?} in:\n{table}"))
}

/// To start a process takes a hundred times as long on Windows as to fork one.
const SIZE: [&str; 6] = if cfg!(windows) {
    ["--processes", "12", "--seconds", "8", "--kill-rate", "6"]
} else {
    ["--processes", "24", "--seconds", "6", "--kill-rate", "100"]
};

/// What happens in a storm on Linux alone.
const LINUX: &[&str] = if cfg!(windows) {
    &[]
} else {
    &[
        "checks while held",
        "- clients, at a moment of their own",
        "- supervisors, from outside",
        "forked children",
        "other programs executed while holding",
    ]
};

/// The table of one that has ended well.
fn storm() -> String {
    let output = Command::new(program())
        .args(SIZE)
        .args(["--kind", "both", "--doomed", "60"])
        .output()
        .expect("run the storm");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{errors}");
    assert_eq!(
        figure(&table, "most live instances of a service at once"),
        1
    );
    table
}

#[test]
fn storm_of_both_kinds_breaks_no_guarantee() {
    let everywhere = [
        "rounds",
        "client processes",
        "acquisitions",
        "starts",
        "- clients, from outside",
        "- clients, at a step of procref's",
        "- instances",
    ];
    let mut missing: Vec<_> = everywhere.iter().chain(LINUX).collect();
    // What happens is drawn at random, and little of it fits into the time where the machine is busy.
    for _ in 0..10 {
        let table = storm();
        missing.retain(|what| figure(&table, what) == 0);
        if missing.is_empty() {
            return;
        }
    }
    panic!("it does not happen in ten storms: {missing:?}");
}

#[test]
fn storm_reports_an_invalid_argument() {
    let output = Command::new(program())
        .args(["--processes", "many"])
        .output()
        .expect("run the storm");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("many is no number"), "{errors}");
}
