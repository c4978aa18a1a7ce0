//! Snapshots of the help pages and of error messages.

#![cfg(target_os = "linux")]

mod support;

use support::{path_text, sandbox::Sandbox};

const COMMANDS: [&str; 18] = [
    "run",
    "hold",
    "pin",
    "unpin",
    "ps",
    "status",
    "logs",
    "stop",
    "restart",
    "wait",
    "gc",
    "doctor",
    "check",
    "init",
    "demo",
    "completions",
    "man",
    "help",
];

#[test]
fn help_pages_match_the_snapshot() {
    let sandbox = Sandbox::new();
    let mut pages = sandbox.stdout("", &["--help"]);
    for command in COMMANDS {
        pages += &format!(
            "\n==== {command}\n\n{}",
            sandbox.stdout("", &[command, "--help"])
        );
    }
    insta::assert_snapshot!("help", pages);
}

#[test]
fn error_messages_match_the_snapshot() {
    let sandbox = Sandbox::new();
    let mut transcript = String::new();
    for line in [
        "",
        "rum db",
        "up db",
        "start db",
        "down",
        "exec db true",
        "shell db",
        "ls",
        "run",
        "run db true",
        "run db pytest -x --lf",
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
        "help up",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = sandbox.run("db", &words);
        let code = done.code.expect("an exit code");
        transcript += &format!("$ procref {line}\n{}{}[{code}]\n\n", done.out, done.err);
    }
    let dir = path_text(&sandbox.runtime_dir());
    let transcript = transcript.replace(&dir, "RUNTIME_DIR");
    let here = path_text(&sandbox.path("here"));
    insta::assert_snapshot!("errors", transcript.replace(&here, "HERE"));
}
