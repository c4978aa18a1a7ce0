//! The test suites of runtimes and of callbacks also pass without the library's `tokio` feature.

#![cfg(target_os = "linux")]

use std::process::Command;

/// Builds everything a second time, into a separate directory, because all tests of one build have
/// the same features.
#[test]
fn runtime_and_callback_suites_pass_without_the_tokio_feature() {
    let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/without-tokio");
    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--package", "procref-testkit"])
        .args(["--no-default-features", "--features", "crash-points"])
        .args(["--test", "runtimes"])
        .args(["--test", "g9_callback_failures"])
        .args(["--target-dir", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(out.matches("test result: ok").count(), 2, "{out}\n{err}");
}
