//! Advice for commands that are written for a shell: procref executes programs without one.
//!
//! A command as one text is refused if a word can only be meant for a shell: an operator that is not quoted,
//! a command that only shells have, or a variable in front of the program. All else is passed as it is, and
//! if the program cannot be started or ends before it is ready, the error says what no shell has read.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Error;
use crate::output::shown;
use crate::spec::ServiceSpec;

/// How to have a shell.
const SHELL: &str = if cfg!(windows) {
    "cmd /c \"...\""
} else {
    "sh -c '...'"
};

/// Commands that are no programs.
const COMMANDS: [&str; 24] = [
    ".", "[[", "alias", "case", "cd", "declare", "eval", "exec", "export", "for", "function", "if",
    "local", "pushd", "read", "set", "shopt", "source", "trap", "ulimit", "umask", "unset",
    "until", "while",
];

const OPERATORS: [&str; 9] = ["&&", "||", "|", "|&", ";", ";;", "&", "&>", "&>>"];

/// Programs that read such words themselves.
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

/// Fails if a command can only be meant for a shell. `words` are those of `text`.
pub(crate) fn check(text: &str, words: &[String]) -> Result<(), String> {
    if let Some(first) = words.first() {
        if let Some(advice) = about_first(first) {
            return Err(format!("{advice}, or write {SHELL}"));
        }
    }
    match unquoted(text).find(|word| is_operator(word)) {
        Some(word) => Err(format!(
            "no shell reads it, and `{word}` means something only to a shell; write {SHELL}, or put `{word}` in \
             quotes to pass it to the program"
        )),
        None => Ok(()),
    }
}

/// What to do about a word that stands where the program should, and can be none.
fn about_first(word: &str) -> Option<String> {
    if is_assignment(word) {
        return Some(format!(
            "no shell reads it, and `{word}` is a variable and no program; set variables by `env` or `--env`"
        ));
    }
    let instead = match COMMANDS.contains(&word).then_some(word)? {
        "cd" | "pushd" => "; set the working directory by `cwd` or `--cwd`",
        "export" | "declare" | "local" => "; set variables by `env` or `--env`",
        "exec" => "; leave it out",
        _ => "",
    };
    Some(format!(
        "no shell reads it, and `{word}` is a command of shells and no program{instead}"
    ))
}

/// `NAME=value`.
pub(crate) fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else {
        return false;
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| is_part(c) && !c.is_ascii_digit()) && name.chars().all(is_part)
}

/// An operator, or a redirection that is followed by what only a redirection is followed by. `<name>` and
/// `>=1` are none.
fn is_operator(word: &str) -> bool {
    if OPERATORS.contains(&word) {
        return true;
    }
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let redirection = digits.strip_prefix('&').unwrap_or(digits);
    let target = redirection.trim_start_matches(['<', '>']);
    let arrows = redirection.len() - target.len();
    if !(1..=3).contains(&arrows) {
        return false;
    }
    match target.strip_prefix('&') {
        Some(descriptor) => descriptor == "-" || is_number(descriptor),
        None => {
            target.is_empty() || target.starts_with(['/', '$', '~']) || target.starts_with("./")
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The words of a command in which nothing is quoted, as they stand in the text.
fn unquoted(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = skip_space(rest);
            if rest.is_empty() {
                return None;
            }
            let (length, is_quoted) = measure(rest);
            let (word, behind) = rest.split_at(length);
            rest = behind;
            if !is_quoted {
                return Some(word);
            }
        }
    })
}

/// The text from its first word on: behind space, comments and continued lines.
fn skip_space(text: &str) -> &str {
    let mut rest = text;
    loop {
        let behind = rest.trim_start_matches([' ', '\t', '\n']);
        let behind = behind.strip_prefix("\\\n").unwrap_or(behind);
        let behind = match behind.starts_with('#') {
            true => behind.split_once('\n').map_or("", |(_, next)| next),
            false => behind,
        };
        if behind.len() == rest.len() {
            return rest;
        }
        rest = behind;
    }
}

/// The length of the word that a text begins with, and whether a part of it is quoted.
fn measure(text: &str) -> (usize, bool) {
    let mut is_quoted = false;
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, ' ' | '\t' | '\n') => return (at, is_quoted),
            (None, '\'' | '"') => {
                quote = Some(c);
                is_quoted = true;
            }
            (None | Some('"'), '\\') => {
                chars.next();
                is_quoted = true;
            }
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    (text.len(), is_quoted)
}

/// The error about a service that did not start, with what no shell has read in its command.
pub(crate) fn explain(spec: &ServiceSpec, error: Error) -> Error {
    use procref::Error::{Exec, Exited, NotReady};

    if !matches!(
        error,
        Error::Service(Exec { .. } | Exited { .. } | NotReady { .. }) | Error::BeforeProgram { .. }
    ) {
        return error;
    }
    let commands = [&spec.start, &spec.setup.init];
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

/// What a shell would have read in a command.
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
            "`{program}` is one word with spaces, and no shell splits it; write each word by itself, or {SHELL}"
        ));
    }
    let word = words.iter().find(|word| is_for_shell(word));
    let word = word.or_else(|| arguments.iter().find(|word| is_operator(word)))?;
    Some(format!(
        "the program was given `{word}` as it is, because no shell reads the command; if a shell should, write \
         {SHELL}"
    ))
}

/// A variable, a substitution, a home directory, a pattern, or an operator at the end of a word.
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

/// What to do about a client that was not found, if it was written for a shell.
pub(crate) fn about_client(program: &OsStr, arguments: &[&OsStr]) -> Option<String> {
    let name = program.to_string_lossy();
    // Its interpreter may be what was not found.
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
            "no shell reads it; write `-- env {name} {}`",
            shell_words::join(rest)
        ));
    }
    if COMMANDS.contains(&name.as_str()) {
        return Some(format!(
            "it is a command of shells and no program; write `-- {SHELL}`"
        ));
    }
    if name.contains(char::is_whitespace) {
        return Some(format!(
            "it is one word with spaces, and no shell splits it; write `-- {name}` without the quotes, or `-- \
             {SHELL}`"
        ));
    }
    is_for_shell(&name).then(|| format!("no shell reads it; write `-- {SHELL}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value_parsers;

    #[test]
    fn commands_for_a_shell_are_refused() {
        for text in [
            "cd /tmp && x",
            "cd /tmp",
            "x && y",
            "x&& y || z",
            "x | y",
            "x |& y",
            "x ; y",
            "x &",
            "x > file",
            "x >> file",
            "x < file",
            "x 2> file",
            "x >/dev/null",
            "x 2>/dev/null",
            "x </dev/null",
            "x 2>&1",
            "x >&2",
            "x 2>&-",
            "x &> file",
            "x &>/dev/null",
            "x <<< y",
            "x >$LOG",
            "x # && y\n && z",
            "x \\\n&& y",
            "'x y' && z",
            "PORT=1 x",
            "A_1= x",
            "'A=b' x",
            "exec x",
            "export A=b",
            "source x",
            ". x",
            "ulimit -n 4",
        ] {
            let error = value_parsers::words(text).expect_err(text);
            assert!(error.contains("no shell reads it"), "{text}: {error}");
            assert!(error.contains(SHELL), "{text}: {error}");
        }
        for (text, instead) in [
            ("cd x", "`--cwd`"),
            ("A=b x", "`--env`"),
            ("exec x", "leave it out"),
        ] {
            let error = value_parsers::words(text).expect_err(text);
            assert!(error.contains(instead), "{text}: {error}");
        }
    }

    #[test]
    fn commands_for_a_program_are_not_refused() {
        for text in [
            "x --filter 'a|b'",
            "x '&&' \"|\" '>' ';'",
            "x 'a && b'",
            "sh -c 'cd x && y >z 2>&1 &'",
            "x \\; \\| \\&\\&",
            "x a=b A=b",
            "./A=b",
            "/x/cd cd",
            "x <name> >=1 <2 a>b a&b a|b a;b ;x x; x&",
            "x -> => <- <= ->/x",
            "x $HOME ~/x *.c `y` $(y)",
            "x 1 2 &x ||x",
            "x # && y",
            "1A=b",
            // On Windows a backslash is a part of paths.
            #[cfg(unix)]
            "x \"a\\\" && b\"",
        ] {
            assert!(
                value_parsers::words(text).is_ok(),
                "{text}: {:?}",
                value_parsers::words(text)
            );
        }
    }

    #[test]
    fn words_without_quotes_are_found_as_they_are_split() {
        for text in [
            "a b\tc\nd",
            "a#b #c\nd # e",
            " a \\\n b\\\nc ü",
            "'a b' c \"d \\\" e\" f\\ g h",
            "a'b'c d",
            "",
            "#",
        ] {
            let split = shell_words::split(text).expect(text);
            let found: Vec<&str> = unquoted(text).collect();
            assert!(
                found.iter().all(|word| split.iter().any(|it| it == word)),
                "{text}"
            );
            if !text.contains(['\'', '"', '\\']) {
                assert_eq!(found, split, "{text}");
            }
        }
        let found: Vec<&str> = unquoted("'a b' c \"d \\\" e\" f\\ g h 'i'j").collect();
        assert_eq!(found, ["c", "h"]);
    }

    #[test]
    fn words_that_no_shell_has_read_are_named() {
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
            let told = advice(&words(command)).unwrap_or_default();
            assert!(told.contains(named), "{command:?}: {told}");
            assert!(told.contains(SHELL), "{command:?}: {told}");
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
