//! What `--help` and the errors say, as a whole.

#![cfg(target_os = "linux")]

#[path = "support/sandbox.rs"]
mod stage;

use stage::Stage;

const COMMANDS: [&str; 16] = [
    "run",
    "hold",
    "pin",
    "unpin",
    "ps",
    "status",
    "logs",
    "stop",
    "wait",
    "gc",
    "doctor",
    "init",
    "demo",
    "completions",
    "man",
    "help",
];

#[test]
fn help_pages_match_the_snapshot() {
    let stage = Stage::new();
    let mut pages = stage.out("", &["--help"]);
    for command in COMMANDS {
        pages += &format!(
            "\n==== {command}\n\n{}",
            stage.out("", &[command, "--help"])
        );
    }
    insta::assert_snapshot!("help", pages);
}

#[test]
fn error_messages_match_the_snapshot() {
    let stage = Stage::new();
    let mut said = String::new();
    for line in [
        "",
        "rum db",
        "run",
        "run db true",
        "run db --ready http -- true",
        "run db --ready cmd: --start x -- true",
        "run db --port 70000 -- true",
        "run db --linger 5 --start x -- true",
        "run db --env X --start x -- true",
        "run db --stop-signal NONSENSE --start x -- true",
        "run db --mismatch join --start x -- true",
        "run db --ready http:/ --start x -- true",
        "run db --linger 13d --start x -- true",
        "run db -- true",
        "status db",
        "stop db",
        "logs db",
        "pin db",
        "wait db --ready --stopped",
        "wait db --timeout 1ms",
        "ps --interval 0s",
        "wait db --allow-unknown --timeout 1ms",
        "unpin db",
        "man nonsense",
        "help rum",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = stage.done("db", &words);
        let code = done.code.expect("a code");
        said += &format!("$ procref {line}\n{}{}[{code}]\n\n", done.out, done.err);
    }
    let dir = stage::text(&stage.runtime_dir());
    let said = said.replace(&dir, "RUNTIME_DIR");
    let here = stage::text(&stage.path("here"));
    insta::assert_snapshot!("errors", said.replace(&here, "HERE"));
}
