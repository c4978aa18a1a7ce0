use std::borrow::Cow;

use procref::Ready;

use super::When;

/// What readiness can be.
pub(crate) const READY: &str = "tcp, http:/path, pipe:NAME, log:REGEX, cmd:COMMAND, started";

/// What can ask whether a service is well.
pub(crate) const HEALTH: &str =
    "tcp, http:/path, pipe:NAME, cmd:COMMAND, ready (as `ready` has it)";

/// Where the runtime directory is, for the help.
pub(crate) const RUNTIME_DIR: &str = "The runtime directory: who shares it shares services

Without it, the first that is set of %PROCREF_RUNTIME_DIR% and %LOCALAPPDATA%\\procref.";

/// As a shell would have it in which `\` is no more than a part of paths: each one outside of single quotes is
/// doubled, and a shell makes one of the two.
pub(super) fn shell(text: &str) -> Cow<'_, str> {
    let mut doubled = String::new();
    let mut open = None;
    for c in text.chars() {
        match (c, open) {
            ('\'' | '"', None) => open = Some(c),
            (_, Some(quote)) if c == quote => open = None,
            ('\\', quote) if quote != Some('\'') => doubled.push(c),
            _ => {}
        }
        doubled.push(c);
    }
    doubled.into()
}

pub(super) fn notify() -> Result<When, String> {
    Err(
        "there is no `notify` on Windows; choose tcp, http:/path, pipe:NAME or log:REGEX"
            .to_owned(),
    )
}

pub(super) fn unix(_: &str) -> Result<When, String> {
    Err("there is no `unix` on Windows; choose tcp, or pipe:NAME for a named pipe".to_owned())
}

/// A named pipe of this machine: with or without what stands before all of them.
pub(super) fn pipe(name: &str) -> Result<When, String> {
    const PIPES: &str = r"\\.\pipe\";
    match name.strip_prefix(PIPES).unwrap_or(name) {
        "" => Err("write the pipe's name behind it: pipe:my-service".to_owned()),
        name => Ok(When::Asked(Ready::unix(format!("{PIPES}{name}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;

    #[test]
    fn a_backslash_is_a_part_of_paths() {
        for (text, expected) in [
            (r"C:\x\y.exe --port 1", vec![r"C:\x\y.exe", "--port", "1"]),
            (
                r#""C:\My Programs\y.exe" a"#,
                vec![r"C:\My Programs\y.exe", "a"],
            ),
            (
                r"'C:\My Programs\y.exe' '\'",
                vec![r"C:\My Programs\y.exe", r"\"],
            ),
            (r#""it's" '"' x\"#, vec!["it's", "\"", r"x\"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(words(text), Ok(expected), "{text}");
        }
    }
}
