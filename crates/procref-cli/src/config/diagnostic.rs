//! What is wrong with a configuration, and where.

use std::fmt::{self, Write as _};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The furthest that a word may be from one that is meant, to be suggested: as a share of it.
const SIMILAR: f64 = 0.7;

/// Everything that is wrong with a configuration; at least one thing.
#[derive(Debug)]
pub(crate) struct ConfigError {
    pub(crate) problems: Vec<Problem>,
}

/// One thing that is wrong: `FILE:LINE:COLUMN: message`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) file: PathBuf,
    /// Line and column, counted from 1. `None`: it is about the file as a whole.
    pub(crate) place: Option<(usize, usize)>,
    /// What is wrong, with which service, and what to do about it.
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            message: message.into(),
        }
    }

    pub(crate) fn io(file: &Path, what: &str, error: &io::Error) -> Self {
        Self::of_file(file, format!("could not {what}: {error}"))
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        // Of a name with a line break in it, or with what a terminal would obey, that is shown.
        f.write_str(": ")?;
        for character in self.message.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// The text of a file, to tell places in it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    pub(crate) fn problem(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Problem {
        Problem {
            file: self.file.to_owned(),
            place: Some(self.place(span.map_or(0, |span| span.start))),
            message: message.into(),
        }
    }

    /// Line and column of a byte, counted from 1; columns in characters.
    pub(crate) fn place(&self, byte: usize) -> (usize, usize) {
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

/// `; did you mean ...?`, where one of the words is like the one that was written, and otherwise all of
/// them: `; there is ...`.
pub(crate) fn suggestion<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match meant(written, words.iter().copied()) {
        Some(word) => format!("; did you mean `{word}`?"),
        None if words.is_empty() => String::new(),
        None => format!("; there is {}", listed(&words)),
    }
}

/// The word that is most like the one that was written, if one is like it at all.
pub(crate) fn meant<'a>(
    written: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let likeness = |word| strsim::jaro_winkler(written, word);
    let words = words.into_iter().map(|word| (likeness(word), word));
    let closest = words
        .filter(|(likeness, _)| *likeness > SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    closest.map(|(_, word)| word)
}

/// `a`, `b` and `c`.
pub(crate) fn listed(words: &[&str]) -> String {
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
    fn places_are_lines_and_characters() {
        let source = Source {
            file: Path::new("f"),
            text: "a\nß= 1\n",
        };
        for (byte, place) in [(0, (1, 1)), (2, (2, 1)), (4, (2, 2)), (99, (3, 1))] {
            assert_eq!(source.place(byte), place, "byte {byte}");
        }
    }

    #[test]
    fn a_problem_is_one_line_that_no_terminal_obeys() {
        let problem = Problem::of_file(Path::new("f"), "`a\nb\u{1b}[2J\u{9b}ß` is wrong");
        assert_eq!(problem.to_string(), r"f: `a\nb\u{1b}[2J\u{9b}ß` is wrong");
    }

    #[test]
    fn what_is_like_a_word_is_taken_for_it() {
        let words = ["start", "stop-signal", "depends-on"];
        assert_eq!(suggestion("strat", words), "; did you mean `start`?");
        assert_eq!(
            suggestion("depend_on", words),
            "; did you mean `depends-on`?"
        );
        assert_eq!(
            suggestion("xyz", words),
            "; there is `start`, `stop-signal` and `depends-on`"
        );
        assert_eq!(suggestion("xyz", []), "");
    }
}
