//! Runs each fuzzing target with all inputs of its corpus.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use procref_config::fuzzing::Target;

/// Lists the targets of the library and of the command line.
fn targets() -> impl Iterator<Item = Target> {
    let library = procref::fuzzing::TARGETS.iter();
    library.chain(procref_config::fuzzing::TARGETS).copied()
}

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

#[test]
fn corpus_inputs_all_satisfy_their_target() {
    let mut failed = Vec::new();
    for (target, run) in targets() {
        let dir = fuzz_dir().join("corpus").join(target);
        let inputs = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
        let mut tried = 0;
        for input in inputs {
            let path = input.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            if panic::catch_unwind(|| run(&bytes)).is_err() {
                failed.push(path);
            }
            tried += 1;
        }
        assert!(tried > 0, "{dir:?} is empty");
    }
    assert!(
        failed.is_empty(),
        "these inputs failed, and their panics are above: {failed:#?}"
    );
}

#[test]
fn fuzz_targets_match_the_programs_and_corpora() {
    let targets: BTreeSet<_> = targets().map(|(name, _)| name.to_owned()).collect();
    for dir in ["corpus", "fuzz_targets"] {
        let entries = fs::read_dir(fuzz_dir().join(dir)).unwrap();
        let names: BTreeSet<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, targets, "{dir}");
    }
}
