//! The messages of the command line contain no terms of the library's interface.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{output_text, workspace::Workspace};

/// Terms of the library's interface.
const TERMS: [&str; 16] = [
    "base_dir",
    "Mismatch::",
    "Orphan::",
    "on_first_acquire",
    "on_recover",
    "on_ready",
    "on_last_release",
    "on_health_check",
    "current_dir",
    "stop_timeout",
    "start_timeout",
    "wait_timeout",
    "socket_activation",
    "acquire it",
    "acquire again",
    "`command`",
];

/// Texts of the library with such terms, which `error/library.rs` replaces.
const REPLACED: [&str; 17] = [
    // Settings.
    "current_dir",
    // Callbacks.
    "on_first_acquire",
    "`on_first_acquire`",
    "on_recover",
    "`on_recover`",
    "on_ready",
    "`on_ready`",
    "on_last_release",
    "`on_last_release`",
    "on_health_check",
    // Errors.
    "(set a `command` or an `on_first_acquire` callback)",
    "or use `Mismatch::Join` or `Mismatch::Separate`",
    "could not {operation}: {reason} (acquire the service again)",
    "(stop the process by hand and acquire again",
    // Values that a callback returns.
    "only an `on_health_check` could find out whether that is alive",
    "calling on_last_release",
    // Messages for programmers.
    "base_dir",
];

/// Texts of the library that no command receives, because the command line does not have these settings.
const UNREACHABLE: [&str; 4] = [
    "socket_activation",
    "so `Orphan::Keep` is not possible",
    "with `Orphan::Keep` there is no supervisor",
    "no client is left to call `on_last_release`",
];

/// Returns `true` if the text equals a known text, or contains a known text of several words.
fn is_known(text: &str) -> bool {
    let mut known = REPLACED.iter().chain(&UNREACHABLE);
    known.any(|known| text == *known || (known.contains(' ') && text.contains(known)))
}

/// Returns the string literals of a source file without those in comments and tests.
fn literals(source: &str) -> Vec<String> {
    let source = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(at);
        rest = if from.starts_with("//") {
            from.split_once('\n').map_or("", |(_, behind)| behind)
        } else if let Some(text) = from.strip_prefix('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before.trim_end_matches('#').ends_with('r');
            let end = format!("\"{}", "#".repeat(hashes));
            let mut length = 0;
            while !text[length..].starts_with(&end) {
                let escaped = !is_raw && text[length..].starts_with('\\');
                let character = text[length..]
                    .chars()
                    .next()
                    .expect("the end of the literal");
                length += character.len_utf8();
                length += usize::from(escaped);
            }
            let lines = text[..length]
                .lines()
                .map(|line| line.trim().trim_end_matches('\\'));
            found.push(lines.collect());
            &text[length + end.len()..]
        } else if from.starts_with("'\"'") || from.starts_with("'/'") {
            &from[3..]
        } else {
            &from[1..]
        };
    }
    found
}

/// Returns the string literals with such terms, each with the path of its source file.
fn texts_with_terms(root: &Path, skipped: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("list the sources").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if skipped.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(".rs") {
                let source = fs::read_to_string(&path).expect("read a source");
                let place = path
                    .strip_prefix(root)
                    .expect("a path below the root")
                    .to_string_lossy()
                    .into_owned();
                let texts = literals(&source).into_iter();
                let texts = texts.filter(|text| TERMS.iter().any(|term| text.contains(term)));
                found.extend(texts.map(|text| (place.clone(), text)));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn command_line_texts_contain_no_library_terms() {
    for sources in ["src", "../procref-config/src"] {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join(sources);
        // `library.rs` replaces the texts.
        let found = texts_with_terms(&sources, &["library.rs"]);
        assert_eq!(found, []);
    }
}

#[test]
fn library_texts_with_library_terms_are_known() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../procref/src");
    let skipped = [
        "tests",
        "tests.rs",
        "model",
        "model.rs",
        "fuzz",
        "fuzz.rs",
        "fuzzing.rs",
    ];
    let found = texts_with_terms(&sources, &skipped);
    assert!(!found.is_empty(), "the search finds nothing");
    let unknown: Vec<_> = found.iter().filter(|(_, text)| !is_known(text)).collect();
    assert!(
        unknown.is_empty(),
        "replace these terms in the command line's messages: {unknown:#?}"
    );
}

#[test]
fn string_literals_are_found_in_source_text() {
    let source = "let a = \"one \\\" two\"; // \"three\"\nlet b = r#\"fo\"ur\"#; let c = '\"'; f(\"five \\\n    six\")";
    assert_eq!(literals(source), ["one \\\" two", "fo\"ur", "five six"]);
}

#[test]
fn fingerprint_mismatch_error_names_the_option() {
    let workspace = Workspace::new();
    let start = "start = 'sleep 60'\nready = 'started'\n";
    let project = workspace.project(
        "app",
        &format!("[services.s]\n{start}fingerprint = 'one'\n"),
    );
    let client = project.hold("s", "true");
    let (_, stderr) = project.failure(&["run", "s", "--fingerprint", "two", "--", "true"]);
    assert!(
        stderr.contains("`mismatch`") && stderr.contains("--mismatch"),
        "{stderr}"
    );
    assert!(TERMS.iter().all(|term| !stderr.contains(term)), "{stderr}");
    client.leave();
}

#[test]
fn missing_configuration_error_explains_how_to_create_one() {
    let workspace = Workspace::new();
    let here = workspace.path("home");
    for args in [
        &["run", "redis", "--", "true"][..],
        &["hold", "redis"],
        &["status", "redis"],
        &["stop", "redis"],
    ] {
        let output = workspace
            .procref(&here)
            .args(args)
            .output()
            .expect("run procref");
        let (_, stderr) = output_text(&output);
        assert!(!output.status.success(), "{stderr}");
        for part in [
            &format!("no procref.toml in {} or above it", here.display()),
            "procref init --recipe redis",
            "--start",
        ] {
            assert!(stderr.contains(part), "{args:?}: {part:?} in {stderr}");
        }
    }
    let mut command = workspace.procref(&here);
    let output = command
        .args(["--no-config", "run", "redis", "--", "true"])
        .output();
    let (_, stderr) = output_text(&output.expect("run procref"));
    assert!(
        stderr.contains("--no-config reads no file") && stderr.contains("--start"),
        "{stderr}"
    );
}
