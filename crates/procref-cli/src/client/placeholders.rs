//! Decides in which of the client's words placeholders are filled in.
//!
//! Shells, jq, JavaScript, Python and template languages also write names in braces. `{port}` is a placeholder, but it
//! is also a complete jq program. There are three kinds of words:
//!
//! | kind | example | result |
//! |---|---|---|
//! | address: each placeholder is in the position of a port, a pid or a path | `-p {port}`, `http://localhost:{port}/x` | filled in |
//! | program: has a character that options and addresses do not have | `.[] \| {pid}`, `echo ${port}`, `{{port}}` | passed unchanged |
//! | ambiguous: could be both | `{port}` as a separate argument | an error, before any process is started |
//!
//! A placeholder with a service's name, such as `{db.port}`, is not a program in any of these languages. It is filled
//! in in words of the first and third kind.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use procref_config::resolved::ResolvedServices;

use crate::args::RunArgs;
use crate::error::{Error, Result};
use crate::text::shown;

mod words;

pub(super) use words::value_of;

use words::{Piece, PlaceholderKind, WordKind, classify, pieces};

/// The words of the client's command line, each with its kind.
#[derive(Debug)]
pub(crate) struct ClientCommand {
    words: Vec<Word>,
    /// The first placeholder that stays unchanged in a shell program.
    kept_by_shell: Option<String>,
}

#[derive(Debug)]
struct Word {
    text: OsString,
    is_filled: bool,
}

impl ClientCommand {
    /// Fails if a word is ambiguous and neither `--fill` nor `--no-fill` is set.
    pub(crate) fn new(args: &RunArgs, resolved: &ResolvedServices) -> Result<Self> {
        let services: Vec<&str> = resolved.all().map(|spec| spec.name.as_str()).collect();
        let named: Vec<&str> = resolved.named().map(|spec| spec.name.as_str()).collect();
        let mut words = Vec::new();
        let client = args.client_words();
        let mut before = OsStr::new("");
        for text in &client {
            let is_filled = match (args.fill, args.no_fill) {
                (true, _) => true,
                (_, true) => false,
                _ => match classify(text, before, &services) {
                    WordKind::Address => true,
                    WordKind::Program => false,
                    WordKind::Ambiguous(place) => {
                        return Err(ambiguous_error(text, &place, named[0]));
                    }
                },
            };
            if let (true, Some(place)) =
                (is_filled && named.len() > 1, unqualified(text, &services))
            {
                return Err(unqualified_error(text, place, &named));
            }
            words.push(Word {
                text: text.clone(),
                is_filled,
            });
            before = text;
        }
        let kept_by_shell = match args.no_fill {
            true => None,
            false => kept_by_shell(&words, &services),
        };
        Ok(Self {
            words,
            kept_by_shell,
        })
    }

    /// Returns the words that the client gets.
    pub(crate) fn filled(
        &self,
        fill: impl Fn(&OsStr) -> OsString,
    ) -> impl Iterator<Item = OsString> {
        self.words.iter().map(move |word| match word.is_filled {
            true => fill(&word.text),
            false => word.text.clone(),
        })
    }

    /// Returns the words in which placeholders are filled in.
    pub(crate) fn filled_words(&self) -> impl Iterator<Item = &OsStr> {
        let filled = self.words.iter().filter(|word| word.is_filled);
        filled.map(|word| word.text.as_os_str())
    }

    /// Returns the first placeholder that stays unchanged in a shell program.
    pub(crate) fn kept_by_shell(&self) -> Option<&str> {
        self.kept_by_shell.as_deref()
    }
}

/// Returns the first placeholder in a shell program that has no `$` before it. Such a name has no meaning in a shell,
/// so the user probably meant the placeholder.
fn kept_by_shell(words: &[Word], services: &[&str]) -> Option<String> {
    const SHELLS: [&str; 7] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"];
    let program = Path::new(&words.first()?.text).file_name()?;
    if !SHELLS.iter().any(|shell| program == *shell) {
        return None;
    }
    let option = words
        .iter()
        .position(|word| is_command_option(&word.text))?;
    let script = words.get(option + 1).filter(|word| !word.is_filled)?;
    let mut before = None;
    for piece in pieces(script.text.as_encoded_bytes(), services) {
        match piece {
            Piece::Literal(text) => before = text.last().copied(),
            Piece::Place(name, _) if !matches!(before, Some(b'$' | b'{')) => {
                return Some(format!("{{{name}}}"));
            }
            Piece::Place(..) => before = None,
        }
    }
    None
}

/// Returns `true` for `-c`, `-ec`, `-lc` and the like. The next word is the shell program.
fn is_command_option(word: &OsStr) -> bool {
    let word = word.as_encoded_bytes();
    word.starts_with(b"-") && !word.starts_with(b"--") && word.contains(&b'c')
}

fn ambiguous_error(word: &OsStr, place: &str, service: &str) -> Error {
    let (word, service) = (shown(&word.to_string_lossy()), shown(service));
    let what = place.trim_matches(['{', '}']);
    Error::Usage(format!(
        "`{place}` in the client's argument `{word}` could be a placeholder or program text (write \
         `{{{service}.{what}}}` for the placeholder, use --fill to fill in all arguments, or use --no-fill to fill in \
         none)"
    ))
}

/// Returns the first placeholder that does not name its service.
fn unqualified<'a>(word: &'a OsStr, services: &[&str]) -> Option<&'a str> {
    pieces(word.as_encoded_bytes(), services).find_map(|piece| match piece {
        Piece::Place(name, PlaceholderKind::Qualified) if !name.starts_with("meta.") => None,
        Piece::Place(name, _) => Some(name),
        Piece::Literal(_) => None,
    })
}

fn unqualified_error(word: &OsStr, place: &str, named: &[&str]) -> Error {
    let places = named.iter().map(|name| format!("`{{{name}.{place}}}`"));
    let places: Vec<String> = places.map(|place| shown(&place)).collect();
    Error::Usage(format!(
        "`{{{place}}}` in the client's argument `{}` does not say which service it stands for (write {})",
        shown(&word.to_string_lossy()),
        places.join(" or ")
    ))
}
