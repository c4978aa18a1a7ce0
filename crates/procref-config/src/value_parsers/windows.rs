use std::borrow::Cow;

use procref::Ready;

use super::When;

/// The readiness conditions, for messages.
pub const READY: &str = "tcp, http:/path, pipe:NAME, log:REGEX, cmd:COMMAND, started";

/// The health checks, for messages.
pub const HEALTH: &str = "tcp, http:/path, pipe:NAME, cmd:COMMAND, ready (the probe of `ready`)";

/// Returns the text as a POSIX shell would read it, with `\` as a part of paths.
///
/// Each `\` outside of single quotes is doubled, and the splitter reads two of them as one.
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
        "`notify` is not supported on Windows; choose tcp, http:/path, pipe:NAME or log:REGEX"
            .to_owned(),
    )
}

pub(super) fn unix(_: &str) -> Result<When, String> {
    Err("`unix` is not supported on Windows; choose tcp, or pipe:NAME for a named pipe".to_owned())
}

/// Parses the name of a named pipe on this machine, with or without the prefix of all pipes.
pub(super) fn pipe(name: &str) -> Result<When, String> {
    const PIPES: &str = r"\\.\pipe\";
    match name.strip_prefix(PIPES).unwrap_or(name) {
        "" => Err("the pipe's name is missing; write for example pipe:my-service".to_owned()),
        name => Ok(When::Asked(Ready::unix(format!("{PIPES}{name}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;

    #[test]
    fn backslash_is_part_of_a_path() {
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
