//! Completions in zsh and fish, which must be installed.

use std::path::Path;
use std::process::Command;

use crate::support::{PROCREF, copy_environment, path_text, stdout_of, workspace::Workspace};

const SERVICES: &str = "[services.redis]\nstart = \"x\"\n[services.web]\nstart = \"x\"\n";

/// Runs a script with `procref` in `PATH`, in a project with two services. `$1` is an empty directory.
fn printed(shell: &str, args: &[&str], script: &str) -> String {
    let workspace = Workspace::new();
    let project = workspace.project("app", SERVICES);
    let scratch = workspace.empty_project("scratch").dir;
    // A shell that waits for an output which never comes must not block the tests.
    let mut command = Command::new("timeout");
    command.args(["60", shell]);
    copy_environment(&workspace.procref(&project.dir), &mut command);
    let dir = Path::new(PROCREF).parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(args)
        .args(["-c", script, shell, &path_text(&scratch)])
        .env("PATH", format!("{}:{path}", path_text(dir)))
        .env("HOME", &scratch)
        .env("TERM", "dumb")
        .current_dir(&project.dir);
    stdout_of(&mut command)
}

#[test]
fn fish_completes_services_with_their_file() {
    let script = r#"
procref completions fish | source
complete -C "procref status r"
complete -C "procref init --recipe nat"
complete -C "procref __"
complete -C "procref run web -- mkfif"
"#;
    // fish has no `$0`, so its arguments differ.
    let printed = printed("fish", &["--no-config"], script);
    let words: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(words, ["redis", "nats", "mkfifo"], "{printed}");
    assert!(printed.contains("app/procref.toml"), "{printed}");
}

/// Starts a zsh at a terminal, `shell`, which completes the commands of procref.
const ZSH: &str = r#"
procref completions zsh >"$1/_procref"
zmodload zsh/zpty
zpty -b shell zsh -f -i
zpty -w shell "PS1='> '; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -d $1/dump; print RE''ADY"
zpty -r shell line "*READY*"
"#;

/// The script is a file in a directory of `fpath`, as a package installs it, and completes at the first request.
#[test]
fn zsh_completes_a_service_at_the_first_request() {
    let script = r#"
# A tab completes the word. Then the command line becomes the argument of `print`.
zpty -w -n shell $'procref status red\t\x01print -r -- GOT"": \n'
zpty -r shell line "*GOT:*redis*"
print -r -- "$line"
"#;
    let printed = printed("zsh", &["-f"], &format!("{ZSH}{script}"));
    assert!(printed.contains("GOT: procref status redis"), "{printed}");
}

#[test]
fn zsh_completes_a_program_after_the_dashes() {
    let script = r#"
zpty -w -n shell $'procref run web -- mkfif\t\x01print -r -- GOT"": \n'
zpty -r shell line $'*GOT: *\n*'
print -r -- "$line"
"#;
    let printed = printed("zsh", &["-f"], &format!("{ZSH}{script}"));
    assert!(
        printed.contains("GOT: procref run web -- mkfifo"),
        "{printed}"
    );
}
