//! The errors in a configuration file, and their positions.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::text::shown;

/// The smallest similarity at which a word is suggested. `pg` is similar to `postgres` (0.775), and `nope` is not similar
/// to `ignore` (0.75).
const SIMILAR: f64 = 0.76;

/// The errors in a configuration. There is at least one.
///
/// The text has one line for each error.
///
/// ```
/// use procref_config::{Error, Project};
///
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("procref.toml");
/// std::fs::write(&file, "[services.db]\nstrat = 'db-server'\nlinger = 5\n")?;
/// let Err(Error::Config(error)) = Project::read(&file) else {
///     panic!("the file is invalid");
/// };
/// let lines: Vec<_> = error.diagnostics().iter().map(|it| it.line()).collect();
/// assert_eq!(lines, [Some(2), Some(3)]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ConfigError {
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Returns the errors, ordered by their positions.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// An error in a configuration: `FILE:LINE:COLUMN: message`.
///
/// ```
/// use procref_config::{Error, Project};
///
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("procref.toml");
/// std::fs::write(&file, "[services.db]\nstart = 'db-server'\nlinger = 5\n")?;
/// let Err(Error::Config(error)) = Project::read(&file) else {
///     panic!("the file is invalid");
/// };
/// let problem = &error.diagnostics()[0];
/// assert_eq!(problem.file(), file);
/// assert_eq!((problem.line(), problem.column()), (Some(3), Some(10)));
/// assert!(problem.message().starts_with("service `db`: `linger`: "));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub(crate) file: PathBuf,
    /// Line and column, counted from 1, or `None` for an error about the whole file.
    pub(crate) position: Option<(usize, usize)>,
    /// The error, its service, and advice.
    pub(crate) message: String,
}

impl Diagnostic {
    /// Returns the path of the file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the line, counted from 1. Returns `None` for an error about the whole file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.position.map(|(line, _)| line)
    }

    /// Returns the column, counted from 1 in characters. Returns `None` for an error about the whole file.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.position.map(|(_, column)| column)
    }

    /// Returns the error, its service, and advice. The text may have control characters; [`Display`](fmt::Display)
    /// escapes them.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            position: None,
            message: message.into(),
        }
    }

    pub(crate) fn io(file: &Path, what: &str, error: &io::Error) -> Self {
        Self::of_file(file, format!("could not {what}: {error}"))
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.file.to_string_lossy()))?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        // Names may contain line breaks and control sequences.
        write!(f, ": {}", shown(&self.message))
    }
}

/// The text of a file, which converts byte offsets to positions.
#[derive(Clone, Copy)]
pub(crate) struct SourceText<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

impl SourceText<'_> {
    pub(crate) fn diagnostic(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic {
            file: self.file.to_owned(),
            position: Some(self.position(span.map_or(0, |span| span.start))),
            message: message.into(),
        }
    }

    /// Returns line and column of a byte, counted from 1. A column is a character.
    pub(crate) fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.as_bytes().get(..byte);
        let before = before.unwrap_or(self.text.as_bytes());
        let line_start = before.iter().rposition(|&byte| byte == b'\n');
        let in_line = &before[line_start.map_or(0, |newline| newline + 1)..];
        let lines = before.iter().filter(|&&byte| byte == b'\n').count();
        (
            lines + 1,
            String::from_utf8_lossy(in_line).chars().count() + 1,
        )
    }
}

/// Returns `; did you mean ...?` with the most similar word, or `; available: ...` with all words.
pub fn suggestion<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    // A name of a service may have a line break.
    let words: Vec<String> = words.into_iter().map(shown).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match most_similar(written, words.iter().copied()) {
        Some(word) => format!("; did you mean `{word}`?"),
        None if words.is_empty() => String::new(),
        None => format!("; available: {}", listed(&words)),
    }
}

/// Returns the word that is most similar to `written`, if any word is similar.
pub fn most_similar<'a>(
    written: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let similarity = |word| strsim::jaro_winkler(written, word);
    let words = words.into_iter().map(|word| (similarity(word), word));
    let closest = words
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    closest.map(|(_, word)| word)
}

/// Lists words as `a`, `b` and `c`.
pub fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_lines_and_characters() {
        let source = SourceText {
            file: Path::new("f"),
            text: "a\nß= 1\n",
        };
        for (byte, position) in [(0, (1, 1)), (2, (2, 1)), (4, (2, 2)), (99, (3, 1))] {
            assert_eq!(source.position(byte), position, "byte {byte}");
        }
    }

    #[test]
    fn diagnostic_is_one_line_without_control_characters() {
        let diagnostic = Diagnostic::of_file(Path::new("f"), "`a\nb\u{1b}[2J\u{9b}ß` is wrong");
        assert_eq!(
            diagnostic.to_string(),
            r"f: `a\nb\u{1b}[2J\u{9b}ß` is wrong"
        );
    }

    #[test]
    fn suggestion_names_the_most_similar_word() {
        let words = ["start", "stop-signal", "depends-on"];
        assert_eq!(suggestion("strat", words), "; did you mean `start`?");
        assert_eq!(
            suggestion("depend_on", words),
            "; did you mean `depends-on`?"
        );
        assert_eq!(
            suggestion("xyz", words),
            "; available: `start`, `stop-signal` and `depends-on`"
        );
        assert_eq!(suggestion("xyz", []), "");
        assert_eq!(suggestion("pg", ["postgres"]), "; did you mean `postgres`?");
        assert_eq!(suggestion("nope", ["ignore"]), "; available: `ignore`");
    }
}
