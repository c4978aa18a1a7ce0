//! The formats of `procref env`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::text::shown;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EnvFormat {
    /// Commands for sh, bash and zsh: eval "$(procref env db)"
    Sh,
    /// Commands for fish: procref env db --format fish | source
    Fish,
    /// Lines for a .env file
    Dotenv,
    /// One JSON object
    Json,
}

impl EnvFormat {
    /// Returns the variables in this format. If a name is repeated, the last value counts.
    pub(super) fn text(self, variables: &[(String, OsString)]) -> Result<Vec<u8>> {
        let variables: BTreeMap<&str, &OsStr> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_os_str()))
            .collect();
        let mut text = Vec::new();
        match self {
            Self::Json => {
                let mut object = BTreeMap::new();
                for (name, value) in variables {
                    let value = value.to_str().ok_or_else(|| not_utf8(name))?;
                    object.insert(name, value);
                }
                serde_json::to_writer(&mut text, &object)
                    .map_err(|error| Error::io("write JSON", error.into()))?;
                text.push(b'\n');
            }
            _ => {
                for (name, value) in variables {
                    check_name(name)?;
                    self.line(name, value.as_encoded_bytes(), &mut text)?;
                }
            }
        }
        Ok(text)
    }

    fn line(self, name: &str, value: &[u8], text: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Sh => {
                text.extend(format!("export {name}=").bytes());
                let quoted = |byte| (byte == b'\'').then_some(&b"'\\''"[..]);
                quote(value, b'\'', quoted, text);
            }
            Self::Fish => {
                text.extend(format!("set -gx {name} ").bytes());
                let quoted = |byte| match byte {
                    b'\'' => Some(&b"\\'"[..]),
                    b'\\' => Some(&b"\\\\"[..]),
                    _ => None,
                };
                quote(value, b'\'', quoted, text);
            }
            Self::Dotenv | Self::Json => {
                text.extend(format!("{name}=").bytes());
                dotenv(value, text).ok_or_else(|| not_dotenv(name))?;
            }
        }
        text.push(b'\n');
        Ok(())
    }
}

/// Appends a value as direnv, Docker Compose, Node.js and python-dotenv read it. There is no standard, so the value has
/// a form that all of them read in the same way. Returns `None` if there is no such form.
///
/// A plain value is unquoted, because `docker run --env-file` does not remove quotes. Most of the programs take the
/// text between single quotes literally, but python-dotenv does not if two backslashes or a backslash and a quote follow
/// each other. direnv knows no line breaks except `\n` between double quotes. Between double quotes, the programs differ
/// about `\"`, `\$` and `\\`.
fn dotenv(value: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(byte);
    let has = |bytes: &[u8]| value.iter().any(|byte| bytes.contains(byte));
    let is_escape = value.ends_with(b"\\") || value.windows(2).any(|pair| pair == b"\\\\");
    if !value.is_empty() && value.iter().all(is_plain) {
        text.extend(value);
    } else if !has(b"'\n\r") && !is_escape {
        quote(value, b'\'', |_| None, text);
    } else if !has(b"\"$\\\r") {
        let line_break = |byte| (byte == b'\n').then_some(&b"\\n"[..]);
        quote(value, b'"', line_break, text);
    } else {
        return None;
    }
    Some(())
}

/// Appends a value in quotes. `escaped` returns the replacement of a byte, or `None` if the byte is literal.
fn quote(
    value: &[u8],
    quotes: u8,
    escaped: impl Fn(u8) -> Option<&'static [u8]>,
    text: &mut Vec<u8>,
) {
    text.push(quotes);
    for byte in value {
        match escaped(*byte) {
            Some(replacement) => text.extend(replacement),
            None => text.push(*byte),
        }
    }
    text.push(quotes);
}

/// Fails if no shell has a variable of this name.
fn check_name(name: &str) -> Result<()> {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_rest = |c: char| is_letter(c) || c.is_ascii_digit();
    if name.starts_with(is_letter) && name.chars().all(is_rest) {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "could not print variable `{}`: a shell cannot set a variable of this name (change the name in `export`, or use \
         `--format json`)",
        shown(name)
    )))
}

fn not_utf8(name: &str) -> Error {
    Error::Failed(format!(
        "could not print variable `{name}` as JSON: its value is not UTF-8 (use `--format sh`)"
    ))
}

fn not_dotenv(name: &str) -> Error {
    Error::Failed(format!(
        "could not print variable `{name}` for a .env file: the programs that read such files disagree about its quotes, \
         backslashes or line breaks (use `--format sh` or `--format json`)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(format: EnvFormat, value: &str) -> Result<Vec<u8>> {
        format.text(&[("NAME".to_owned(), OsString::from(value))])
    }

    fn text(format: EnvFormat, value: &str) -> String {
        let text = print(format, value).expect("a value that has a form");
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn value_is_quoted_for_each_format() {
        for (value, sh, fish, dotenv) in [
            ("x://h:1/a", "'x://h:1/a'", "'x://h:1/a'", "x://h:1/a"),
            ("", "''", "''", "''"),
            ("a b", "'a b'", "'a b'", "'a b'"),
            ("$HOME `x`", "'$HOME `x`'", "'$HOME `x`'", "'$HOME `x`'"),
            ("it's", r"'it'\''s'", r"'it\'s'", "\"it's\""),
            (r"a\b", r"'a\b'", r"'a\\b'", r"'a\b'"),
            ("1\n2", "'1\n2'", "'1\n2'", r#""1\n2""#),
            ("it's\n$", "'it'\\''s\n$'", "'it\\'s\n$'", ""),
            ("a\\", "'a\\'", "'a\\\\'", ""),
        ] {
            assert_eq!(text(EnvFormat::Sh, value), format!("export NAME={sh}\n"));
            assert_eq!(
                text(EnvFormat::Fish, value),
                format!("set -gx NAME {fish}\n")
            );
            match dotenv {
                "" => assert!(print(EnvFormat::Dotenv, value).is_err()),
                _ => assert_eq!(text(EnvFormat::Dotenv, value), format!("NAME={dotenv}\n")),
            }
        }
    }

    #[test]
    fn invalid_name_is_rejected_except_in_json() {
        let variables = [("a-b".to_owned(), OsString::from("x"))];
        for format in [EnvFormat::Sh, EnvFormat::Fish, EnvFormat::Dotenv] {
            let error = format.text(&variables).expect_err("an invalid name");
            assert!(error.to_string().contains("`a-b`"), "{error}");
        }
        let json = EnvFormat::Json.text(&variables).expect("JSON");
        assert_eq!(json, b"{\"a-b\":\"x\"}\n");
    }

    #[test]
    fn last_value_of_a_repeated_name_is_printed() {
        let variables =
            [("A", "1"), ("A", "2")].map(|(name, value)| (name.to_owned(), value.into()));
        let text = EnvFormat::Sh.text(&variables).expect("a text");
        assert_eq!(text, b"export A='2'\n");
    }
}
