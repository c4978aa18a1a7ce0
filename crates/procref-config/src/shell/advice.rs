//! Advice about commands that were written for a shell and failed.

use std::ffi::OsStr;
use std::path::Path;

use super::{COMMANDS, SHELL, about_first, is_assignment, is_operator};
use crate::error::Error;
use crate::spec::ServiceSpec;
use crate::text::shown;

/// Programs that are shells.
const SHELLS: [&str; 11] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "ash",
    "fish",
    "cmd",
    "cmd.exe",
    "powershell",
    "pwsh",
];

/// Adds advice to the error about a service that did not start, if its command has shell syntax.
pub(crate) fn explain(spec: &ServiceSpec, error: Error) -> Error {
    use procref::Error::{Exec, Exited, NotReady};

    if !matches!(
        error,
        Error::Service(Exec { .. } | Exited { .. } | NotReady { .. }) | Error::BeforeProgram { .. }
    ) {
        return error;
    }
    let commands = [&spec.start, &spec.prestart.init];
    let advice = commands.into_iter().flatten().find_map(|words| {
        let words: Vec<String> = words
            .iter()
            .map(|it| shown(&it.to_string_lossy()))
            .collect();
        advice(&words)
    });
    match advice {
        Some(advice) => Error::Advised {
            error: Box::new(error),
            advice,
        },
        None => error,
    }
}

/// Returns advice about the first word with shell syntax, unless the program is a shell.
fn advice(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    if Path::new(program).exists() || SHELLS.contains(&file_name(program)) {
        return None;
    }
    if let Some(advice) = about_first(program) {
        return Some(format!("{advice}, or write {SHELL}"));
    }
    if program.contains(char::is_whitespace) {
        return Some(format!(
            "`{program}` is one word with spaces, and no shell splits it: write separate words, or {SHELL}"
        ));
    }
    let word = words.iter().find(|word| is_for_shell(word));
    let word = word.or_else(|| arguments.iter().find(|word| is_operator(word)))?;
    Some(format!(
        "no shell reads the command, so the program got `{word}` unchanged: write {SHELL} if a shell should read it"
    ))
}

/// Returns `true` if the word has a variable, a substitution, a home directory, a pattern, or an operator at its end.
fn is_for_shell(word: &str) -> bool {
    let is_variable = word.match_indices('$').any(|(at, _)| {
        let next = word[at + 1..].chars().next();
        next.is_some_and(|c| c.is_ascii_alphabetic() || "_{(".contains(c))
    });
    let is_substitution = word.matches('`').count() > 1;
    let is_home = word == "~" || word.starts_with("~/");
    let is_pattern = word.contains('*');
    let is_end = word.len() > 1 && word.ends_with([';', '&', '|']);
    is_variable || is_substitution || is_home || is_pattern || is_end
}

fn file_name(program: &str) -> &str {
    let name = Path::new(program).file_name().and_then(OsStr::to_str);
    name.unwrap_or(program)
}

/// Returns advice about a client that was not found, if it was written for a shell.
pub fn about_client(program: &OsStr, arguments: &[&OsStr]) -> Option<String> {
    let name = program.to_string_lossy();
    // If the program exists, its interpreter was not found.
    if Path::new(program).exists() {
        return None;
    }
    let rest: Vec<String> = arguments
        .iter()
        .map(|it| shown(&it.to_string_lossy()))
        .collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let name = shown(&name);
    if is_assignment(&name) {
        return Some(format!(
            "no shell reads the command; write `-- env {name} {}`",
            shell_words::join(rest)
        ));
    }
    if COMMANDS.contains(&name.as_str()) {
        return Some(format!(
            "`{name}` is a shell command and not a program; write `-- {SHELL}`"
        ));
    }
    if name.contains(char::is_whitespace) {
        return Some(format!(
            "the program is one word with spaces, and no shell splits it; write `-- {name}` without quotes, or \
             `-- {SHELL}`"
        ));
    }
    is_for_shell(&name).then(|| format!("no shell reads the command; write `-- {SHELL}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_first_word_with_shell_syntax() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        for (command, named) in [
            (&["x", "$HOME/y"][..], "`$HOME/y`"),
            (&["x", "-p", "${PORT}"], "`${PORT}`"),
            (&["x", "$(y)"], "`$(y)`"),
            (&["x", "`y`"], "``y``"),
            (&["~/x"], "`~/x`"),
            (&["x", "*.c"], "`*.c`"),
            (&["x;", "y"], "`x;`"),
            (&["x", "y", "&&", "z"], "`&&`"),
            (&["x", ">", "z"], "`>`"),
            (&["x y"], "one word with spaces"),
            (&["cd", "x"], "`cd`"),
            (&["A=b", "x"], "`A=b`"),
        ] {
            let message = advice(&words(command)).unwrap_or_default();
            assert!(message.contains(named), "{command:?}: {message}");
            assert!(message.contains(SHELL), "{command:?}: {message}");
        }
        for command in [
            &["x", "a=b", "a$", "$1.50", "100%", "a?b=c&d", "-", "<name>"][..],
            &["sh", "-c", "cd $HOME && x"],
            &["/bin/bash", "-c", "x | y"],
        ] {
            assert_eq!(advice(&words(command)), None, "{command:?}");
        }
    }
}
