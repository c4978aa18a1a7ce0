//! Hints for command lines that are valid in similar tools, such as `docker compose up`.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of other tools, and what does the same in procref.
const ELSEWHERE: [(&[&str], &str); 12] = [
    (
        &["up", "start", "launch"],
        "'procref run NAME -- COMMAND' starts a service for one program, and 'procref pin NAME' keeps it running",
    ),
    (
        &["down", "kill", "halt"],
        "'procref stop NAME' stops a service, and 'procref stop --all' stops all services of the project",
    ),
    (
        &["exec", "with", "do"],
        "'procref run NAME -- COMMAND' runs a program with a service",
    ),
    (
        &["shell", "sh", "enter"],
        "'procref run NAME -- sh' runs a shell with a service",
    ),
    (
        &["ls", "services", "top"],
        "'procref ps' lists the services",
    ),
    (
        &["log", "tail"],
        "'procref logs NAME' prints the output of a service",
    ),
    (
        &["show", "info", "inspect", "state"],
        "'procref status NAME' shows a service",
    ),
    (
        &["acquire", "attach", "lock", "use"],
        "'procref hold NAME' holds a service until it is interrupted",
    ),
    (
        &["release", "disable"],
        "'procref unpin NAME' unpins a service",
    ),
    (
        &["enable", "keep"],
        "'procref pin NAME' keeps a service running",
    ),
    (
        &["rm", "clean", "prune", "cleanup"],
        "'procref gc' removes what crashed processes left",
    ),
    (
        &["add", "new", "create"],
        "'procref init RECIPE' writes a service to procref.toml",
    ),
];

/// Returns what to use instead of a command that only other tools have.
pub(crate) fn for_command(name: &str) -> Option<&'static str> {
    let found = ELSEWHERE.iter().find(|(names, _)| names.contains(&name));
    found.map(|(_, hint)| *hint)
}

/// Adds a hint to an error about a command line. `words` is the command line, and `in_run` states whether its command is
/// `run`.
pub(super) fn add(mut error: clap::Error, words: &[String], in_run: bool) -> clap::Error {
    let hint = match error.kind() {
        ErrorKind::InvalidSubcommand => match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(name)) => for_command(name).map(str::to_owned),
            _ => None,
        },
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument if in_run => {
            missing_dashes(words)
        }
        _ => None,
    };
    let Some(hint) = hint else {
        return error;
    };
    // A similar name, such as `ps` for `up`, would contradict the hint.
    error.remove(ContextKind::SuggestedSubcommand);
    error.remove(ContextKind::SuggestedArg);
    let hint = ContextValue::StyledStrs(vec![StyledStr::from(hint)]);
    error.insert(ContextKind::Suggested, hint);
    error
}

/// Returns the command line with the `--` that is missing before the client of `run`.
fn missing_dashes(words: &[String]) -> Option<String> {
    let run = words.iter().position(|word| word == "run")?;
    let behind = &words[run + 1..];
    if behind.iter().any(|word| word == "--") {
        return None;
    }
    let (name, client) = behind.split_first()?;
    let is_option = |word: &String| word.starts_with('-');
    let first = client.first()?;
    // The values of options look like programs, so only the plain form has an exact hint.
    if is_option(name) || is_option(first) {
        return Some("write '--' before the client: 'procref run NAME -- COMMAND'".to_owned());
    }
    let before = words[..=run].iter().skip(1);
    let before = shell_words::join(before.chain([name]));
    let client = shell_words::join(client);
    Some(format!(
        "write '--' before the client: 'procref {before} -- {client}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    #[test]
    fn hints_are_for_names_that_are_no_commands() {
        let command = args::public_command();
        for name in ELSEWHERE.iter().flat_map(|(names, _)| *names) {
            assert!(command.find_subcommand(name).is_none(), "{name}");
        }
        for (_, hint) in ELSEWHERE {
            let named = hint.split("'procref ").skip(1);
            for name in named.filter_map(|rest| rest.split([' ', '\'']).next()) {
                assert!(command.find_subcommand(name).is_some(), "{hint}");
            }
        }
    }

    #[test]
    fn missing_dashes_are_shown_at_their_place() {
        let hint = |line: &str| {
            let words = shell_words::split(line).expect("words");
            missing_dashes(&words)
        };
        for (line, expected) in [
            ("procref run db pytest", "'procref run db -- pytest'"),
            (
                "procref -q run db pytest -x 'a b'",
                "'procref -q run db -- pytest -x 'a b''",
            ),
            (
                "procref run db --watch-client pytest",
                "'procref run NAME -- COMMAND'",
            ),
        ] {
            let hint = hint(line).unwrap_or_default();
            assert!(hint.ends_with(expected), "{line}: {hint}");
        }
        assert_eq!(hint("procref run db -- pytest"), None);
        assert_eq!(hint("procref run db"), None);
    }
}
