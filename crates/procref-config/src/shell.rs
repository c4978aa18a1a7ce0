//! Finds commands that were written for a shell. procref executes programs without one.
//!
//! A command is rejected if a word is only valid in a shell: an unquoted operator, a shell command, or a variable before
//! the program. All other words are passed unchanged. If the program cannot be executed or exits before
//! it is ready, [`advice`] names the first word with shell syntax.

pub mod advice;

/// The way to run a shell.
const SHELL: &str = if cfg!(windows) {
    "cmd /c \"...\""
} else {
    "sh -c '...'"
};

/// Shell commands that are not programs.
const COMMANDS: [&str; 24] = [
    ".", "[[", "alias", "case", "cd", "declare", "eval", "exec", "export", "for", "function", "if",
    "local", "pushd", "read", "set", "shopt", "source", "trap", "ulimit", "umask", "unset",
    "until", "while",
];

const OPERATORS: [&str; 9] = ["&&", "||", "|", "|&", ";", ";;", "&", "&>", "&>>"];

/// Fails if a command is only valid in a shell. `words` are the words of `text`.
pub fn check(text: &str, words: &[String]) -> Result<(), String> {
    if let Some(first) = words.first() {
        if let Some(advice) = about_first(first) {
            return Err(format!("{advice}, or write {SHELL}"));
        }
    }
    match unquoted(text).find(|word| is_operator(word)) {
        Some(word) => Err(format!(
            "no shell reads the command, and an unquoted `{word}` is shell syntax; write {SHELL}, or quote `{word}` to \
             pass it to the program"
        )),
        None => Ok(()),
    }
}

/// Returns advice if the first word cannot be a program.
fn about_first(word: &str) -> Option<String> {
    if is_assignment(word) {
        return Some(format!(
            "no shell reads the command, and `{word}` is a variable and not a program; set variables with `env` or \
             `--env`"
        ));
    }
    let instead = match COMMANDS.contains(&word).then_some(word)? {
        "cd" | "pushd" => "; set the working directory with `cwd` or `--cwd`",
        "export" | "declare" | "local" => "; set variables with `env` or `--env`",
        "exec" => "; remove it",
        _ => "",
    };
    Some(format!(
        "no shell reads the command, and `{word}` is a shell command and not a program{instead}"
    ))
}

/// Returns `true` if the word has the form `NAME=value`.
pub fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else {
        return false;
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| is_part(c) && !c.is_ascii_digit()) && name.chars().all(is_part)
}

/// Returns `true` if the word is an operator or a redirection with a plausible target. `<name>` and `>=1` are not.
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

/// Returns the unquoted words of a command, exactly as they are in the text.
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

/// Returns the text from its first word on, without the space, comments and line continuations before it.
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

/// Returns the length of the first word, and whether a part of it is quoted.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value_parsers;

    #[test]
    fn command_with_shell_syntax_is_rejected() {
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
            assert!(
                error.contains("no shell reads the command"),
                "{text}: {error}"
            );
            assert!(error.contains(SHELL), "{text}: {error}");
        }
        for (text, instead) in [
            ("cd x", "`--cwd`"),
            ("A=b x", "`--env`"),
            ("exec x", "remove it"),
        ] {
            let error = value_parsers::words(text).expect_err(text);
            assert!(error.contains(instead), "{text}: {error}");
        }
    }

    #[test]
    fn command_without_shell_syntax_is_accepted() {
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
            // On Windows, a backslash is part of a path.
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
    fn unquoted_words_equal_the_split_words() {
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
}
