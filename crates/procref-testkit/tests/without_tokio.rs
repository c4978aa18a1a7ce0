//! The test suites of runtimes and of callbacks also pass without the library's `tokio` feature.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

/// Builds the suites and their programs a second time, into a separate directory, because all tests of one build have the
/// same features.
#[test]
fn runtime_and_callback_suites_pass_without_the_tokio_feature() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--package", "procref-testkit"])
        .args(["--no-default-features", "--features", "crash-points"])
        .args(["--test", "runtimes"])
        .args(["--test", "g9_callback_failures"])
        // Cargo.toml optimizes the library for the model, which does not run here.
        .args(["--config", "profile.dev.package.procref.opt-level=0"])
        .arg("--target-dir")
        .arg(directory.join("without-tokio"))
        // Since Rust 1.91, Cargo then takes the compiled dependencies from this build.
        .env(
            "CARGO_BUILD_BUILD_DIR",
            directory.parent().expect("a parent"),
        )
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(out.matches("test result: ok").count(), 2, "{out}\n{err}");
}
