//! The examples of the manual pages.

/// A purpose and the command line for it.
type Example = (&'static str, &'static str);

/// Returns the examples of a command. `procref` stands for the program itself.
pub(super) fn of(command: &str) -> &'static [Example] {
    let found = EXAMPLES.iter().find(|(name, _)| *name == command);
    found.map_or(&[], |(_, examples)| examples)
}

const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "procref",
        &[
            (
                "Describe a Redis for this project, and use it:",
                "procref init --recipe redis\nprocref run redis -- redis-cli -p {port} ping",
            ),
            (
                "Share a service that no file describes:",
                "procref run web --start 'python3 -m http.server {port}' -- curl localhost:{port}",
            ),
        ],
    ),
    (
        "run",
        &[
            (
                "Run the tests with a database. The first command starts it, and the last one stops it:",
                "procref run postgres -- pytest",
            ),
            (
                "Run them with two services, which start side by side:",
                "procref run postgres redis -- pytest",
            ),
            (
                "Keep the service for a minute after its last client:",
                "procref run redis --linger 1m -- redis-cli -p {port} ping",
            ),
        ],
    ),
    (
        "hold",
        &[
            (
                "Keep a service in this terminal until Ctrl-C:",
                "procref hold redis",
            ),
            (
                "Keep a service until the process 4711 exits:",
                "procref hold redis --for-pid 4711",
            ),
        ],
    ),
    (
        "connect",
        &[(
            "Type requests to a service until Ctrl-D:",
            "procref connect redis",
        )],
    ),
    (
        "pin",
        &[(
            "Keep a service until `procref unpin redis`, also after this terminal is closed:",
            "procref pin redis",
        )],
    ),
    (
        "unpin",
        &[(
            "Let the service stop after its last client:",
            "procref unpin redis",
        )],
    ),
    (
        "env",
        &[
            (
                "Set the variables of a running service in this shell:",
                "eval \"$(procref env redis)\"",
            ),
            (
                "Write them to a file:",
                "procref env redis --format dotenv >.env",
            ),
        ],
    ),
    (
        "ps",
        &[
            ("Show each change:", "procref ps --watch"),
            (
                "List the services of all projects as JSON:",
                "procref ps --all --json",
            ),
        ],
    ),
    (
        "status",
        &[(
            "Show which processes hold a service:",
            "procref status redis",
        )],
    ),
    (
        "logs",
        &[(
            "Print the last lines and those that follow:",
            "procref logs redis --follow --lines 20",
        )],
    ),
    (
        "stop",
        &[
            ("Stop a service that has no clients:", "procref stop redis"),
            (
                "Stop a service that clients hold:",
                "procref stop redis --force",
            ),
        ],
    ),
    (
        "restart",
        &[(
            "Start a service again after a change of its file:",
            "procref restart redis",
        )],
    ),
    (
        "wait",
        &[(
            "Wait until another process has started the service:",
            "procref wait redis --timeout 30s",
        )],
    ),
    (
        "gc",
        &[("Remove the leftovers of all projects:", "procref gc --all")],
    ),
    (
        "check",
        &[("Check the file, and find its programs:", "procref check")],
    ),
    ("doctor", &[("Check this machine:", "procref doctor")]),
    (
        "init",
        &[
            ("List the recipes:", "procref init --list"),
            (
                "Write a file with two services:",
                "procref init --recipe postgres --recipe redis",
            ),
        ],
    ),
    (
        "demo",
        &[("See processes share a service:", "procref demo")],
    ),
    (
        "completions",
        &[
            (
                "Complete command lines in bash. Add this line to ~/.bashrc:",
                "source <(procref completions bash)",
            ),
            (
                "In zsh, add this line to ~/.zshrc, after compinit:",
                "source <(procref completions zsh)",
            ),
            (
                "In fish:",
                "procref completions fish >~/.config/fish/completions/procref.fish",
            ),
        ],
    ),
    (
        "man",
        &[
            ("Read the page of a command:", "procref man run | man -l -"),
            (
                "Install all pages for this user:",
                "procref man --out ~/.local/share/man/man1",
            ),
        ],
    ),
    (
        "help",
        &[("Print the help for a command:", "procref help run")],
    ),
];

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::{self, Cli};

    #[test]
    fn examples_cover_each_command_and_are_valid() {
        let root = Cli::command();
        for command in std::iter::once(&root).chain(args::shown_commands(&root)) {
            let examples = of(command.get_name());
            assert!(!examples.is_empty(), "{}", command.get_name());
            for (_, code) in examples {
                for line in code.lines() {
                    let line = line.trim_start_matches("source <(").trim_end_matches(')');
                    let line = line.trim_start_matches("eval \"$(").trim_end_matches(")\"");
                    let end = line.find(" >").or_else(|| line.find(" | "));
                    let (line, _) = line.split_at(end.unwrap_or(line.len()));
                    let words = shell_words::split(line).expect("words");
                    let parsed = Cli::try_parse_from(words);
                    assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err(line));
                }
            }
        }
    }
}
