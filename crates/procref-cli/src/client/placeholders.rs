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

/// The longest name in braces that is compared. The library has the same limit.
const LONGEST: usize = 1024;

/// The kind of value that a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaceholderKind {
    Port,
    Pid,
    Name,
    Dir,
    /// A value with the name of its service, or metadata.
    Qualified,
}

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

/// The kind of a word.
#[derive(Debug, PartialEq, Eq)]
enum WordKind {
    /// All placeholders in the word are filled in.
    Address,
    /// The word is passed unchanged.
    Program,
    /// The word could be both. Contains the first such placeholder, in braces.
    Ambiguous(String),
}

/// Classifies a word. `before` is the previous word, and `services` are the services whose values can be filled in.
fn classify(word: &OsStr, before: &OsStr, services: &[&str]) -> WordKind {
    let pieces: Vec<Piece<'_>> = pieces(word.as_encoded_bytes(), services).collect();
    let is_program = pieces.iter().any(|piece| match piece {
        Piece::Literal(text) => !is_plain(text),
        Piece::Place(..) => false,
    });
    if is_program {
        return WordKind::Program;
    }
    for (at, piece) in pieces.iter().enumerate() {
        let Piece::Place(name, kind) = piece else {
            continue;
        };
        let literal = |at: Option<usize>| match at.and_then(|at| pieces.get(at)) {
            Some(Piece::Literal(text)) => *text,
            _ => b"",
        };
        let context = PlaceholderContext {
            is_whole: pieces.len() == 1,
            is_first: at == 0,
            word_before: before.as_encoded_bytes(),
            before: literal(at.checked_sub(1)),
            after: literal(Some(at + 1)),
        };
        if !context.is_address(*kind) {
            return WordKind::Ambiguous(format!("{{{name}}}"));
        }
    }
    WordKind::Address
}

/// The text around a placeholder.
struct PlaceholderContext<'a> {
    /// The word is the placeholder alone.
    is_whole: bool,
    /// The word begins with the placeholder.
    is_first: bool,
    word_before: &'a [u8],
    /// The literal text before the placeholder in its word.
    before: &'a [u8],
    /// The literal text after the placeholder in its word.
    after: &'a [u8],
}

impl PlaceholderContext<'_> {
    /// Returns `true` if the placeholder is in a position where programs have no names in braces.
    fn is_address(&self, kind: PlaceholderKind) -> bool {
        match kind {
            PlaceholderKind::Qualified => true,
            // Each template language has a `{name}`, and the user already wrote the service's name.
            PlaceholderKind::Name => false,
            PlaceholderKind::Port => {
                let is_after_colon = self.before.ends_with(b":") && !self.before.ends_with(b"::");
                is_after_colon || self.is_value(&[b"-p", b"-P"], &["port"])
            }
            PlaceholderKind::Pid => self.is_value(&[b"-p"], &["pid"]),
            PlaceholderKind::Dir => self.begins_path() || self.is_value(&[b"-h"], &["dir", "host"]),
        }
    }

    /// Returns `true` if the placeholder is the value of one of these short options, or of an option or a variable with
    /// such a name.
    fn is_value(&self, short: &[&[u8]], names: &[&str]) -> bool {
        if self.is_whole {
            let long = self.word_before.strip_prefix(b"-");
            return short.contains(&self.word_before)
                || long.is_some_and(|name| is_named(name, names));
        }
        if short.contains(&self.before) {
            return true;
        }
        let Some(key) = self.before.strip_suffix(b"=") else {
            return false;
        };
        // The key may follow another one: `&port=` in a URL, or `,port=` in a list.
        let start = key.iter().rposition(|byte| b"?&,:".contains(byte));
        is_named(&key[start.map_or(0, |at| at + 1)..], names)
    }

    fn begins_path(&self) -> bool {
        let separators: &[u8] = if cfg!(windows) { b"/\\" } else { b"/" };
        let is_path = self
            .after
            .first()
            .is_some_and(|byte| separators.contains(byte));
        let is_option = matches!(self.before, [b'-', letter] if letter.is_ascii_alphabetic());
        let follows_separator = matches!(self.before, [.., b'=' | b':' | b','] | [.., b'/', b'/']);
        is_path && (self.is_first || is_option || follows_separator)
    }
}

/// Returns `true` if the name of an option or a variable ends with one of these names: `--db-port`, `PGPORT`,
/// `serverPort`, `--datadir`. `--report` and `--export` do not name a port, and `.port` is jq.
fn is_named(key: &[u8], names: &[&str]) -> bool {
    let Ok(key) = std::str::from_utf8(key) else {
        return false;
    };
    if key.starts_with('.') || key.contains(['=', '/']) {
        return false;
    }
    let part = key.rsplit(['-', '_', '.']).next().unwrap_or(key);
    names.iter().any(|name| {
        let Some(start) = part.len().checked_sub(name.len()) else {
            return false;
        };
        let Some((front, end)) = part.split_at_checked(start) else {
            return false;
        };
        let is_word = front.is_empty() || *name != "port" || end.starts_with('P');
        end.eq_ignore_ascii_case(name) && is_word
    })
}

/// Returns `true` if all characters can appear in options, addresses and paths.
fn is_plain(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let is_plain = match byte {
            // Only an IPv6 address may be in brackets.
            b'[' => {
                let end = rest.iter().position(|&byte| byte == b']');
                let (inside, behind) = rest.split_at(end.unwrap_or(0));
                rest = behind.get(1..).unwrap_or_default();
                let is_part = |byte: &u8| byte.is_ascii_hexdigit() || b":.%".contains(byte);
                !inside.is_empty() && inside.iter().all(is_part)
            }
            b'\\' => cfg!(windows),
            _ => {
                byte.is_ascii_alphanumeric()
                    || !byte.is_ascii()
                    || b"-_./:=,@%+~^#?&".contains(&byte)
            }
        };
        if !is_plain {
            return false;
        }
    }
    true
}

enum Piece<'a> {
    Literal(&'a [u8]),
    Place(&'a str, PlaceholderKind),
}

/// Splits a word into placeholders and the text between them.
fn pieces<'a>(word: &'a [u8], services: &[&str]) -> impl Iterator<Item = Piece<'a>> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let place = (0..rest.len()).find_map(|at| Some((at, place(&rest[at..], services)?)));
        match place {
            Some((0, (name, kind))) => {
                rest = &rest[name.len() + 2..];
                Some(Piece::Place(name, kind))
            }
            _ => {
                let (text, behind) = rest.split_at(place.map_or(rest.len(), |(at, _)| at));
                rest = behind;
                Some(Piece::Literal(text))
            }
        }
    })
}

/// Returns `what` if the placeholder is `NAME.what` with the name of the service. Both parts may have dots.
pub(super) fn value_of<'a>(service: &str, place: &'a str) -> Option<&'a str> {
    place.strip_prefix(service)?.strip_prefix('.')
}

/// Returns the placeholder at the beginning of a text.
fn place<'a>(text: &'a [u8], services: &[&str]) -> Option<(&'a str, PlaceholderKind)> {
    let inside = text.strip_prefix(b"{")?;
    let end = inside.iter().take(LONGEST).position(|&byte| byte == b'}')?;
    let name = std::str::from_utf8(&inside[..end]).ok()?;
    let kind = match name {
        "port" => PlaceholderKind::Port,
        "pid" => PlaceholderKind::Pid,
        "name" => PlaceholderKind::Name,
        "dir" => PlaceholderKind::Dir,
        _ if name.starts_with("meta.") => PlaceholderKind::Qualified,
        _ => {
            let mut values = services
                .iter()
                .filter_map(|service| value_of(service, name));
            let is_known = |what: &str| {
                ["port", "pid", "name", "dir"].contains(&what) || what.starts_with("meta.")
            };
            values.any(is_known).then_some(PlaceholderKind::Qualified)?
        }
    };
    Some((name, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: [&str; 2] = ["my db", "redis"];

    fn kind_of(words: &[&str]) -> WordKind {
        let before = match words {
            [.., before, _] => before,
            _ => "printf",
        };
        classify(
            OsStr::new(words[words.len() - 1]),
            OsStr::new(before),
            &SERVICES,
        )
    }

    #[test]
    fn address_is_filled_in() {
        for words in [
            &["-p", "{port}"][..],
            &["-P", "{port}"],
            &["--port", "{port}"],
            &["-port", "{port}"],
            &["--http-port", "{port}"],
            &["--serverPort", "{port}"],
            &["-p{port}"],
            &["--port={port}"],
            &["--db_port={port}"],
            &["-Dserver.port={port}"],
            &["PORT={port}"],
            &["PGPORT={port}"],
            &["127.0.0.1:{port}"],
            &["[::1]:{port}"],
            &[":{port}"],
            &[":{port}/path"],
            &["http://127.0.0.1:{port}/x?a=b&c=d#e"],
            &["redis://user@localhost:{port}/0"],
            &["DATABASE_URL=postgres://localhost:{port}/db?x=y"],
            &["--url=http://[::1]:{port}"],
            &["8080:localhost:{port}"],
            &["host=localhost,port={port}"],
            &["http://h/x?port={port}&y=z"],
            &["-p", "{pid}"],
            &["--pid", "{pid}"],
            &["--pid={pid}"],
            &["{dir}/socket"],
            &["--socket={dir}/s"],
            &["unix:{dir}/s"],
            &["unix://{dir}/s"],
            &["-S{dir}/s"],
            &["-h", "{dir}"],
            &["PGHOST={dir}"],
            &["--data-dir", "{dir}"],
            &["{redis.port}"],
            &["{my db.port}"],
            &["x-{redis.name}-{redis.dir}"],
            &["{meta.version}"],
            &["no-braces"],
            &[""],
        ] {
            assert_eq!(kind_of(words), WordKind::Address, "{words:?}");
        }
    }

    #[test]
    fn program_stays_unchanged() {
        for word in [
            "echo {port}",
            "port=1; echo ${port}",
            "${port}",
            "$port:{port}",
            "`echo :{port}`",
            ".[] | {pid}",
            "[{name}]",
            "map({name})",
            "{port}|{pid}",
            "{port, pid}",
            "{name:.x,pid:{pid}}",
            "const {port} = require('x')",
            "console.log({port})",
            "import{name}from'x'",
            "f'{name}:{port}'",
            "print(f\"{port}\")",
            "{{port}}",
            "{{{port}}}",
            "--format={{name}}",
            "http://{host}:{port}/",
            "http://$HOST:{port}/",
            "{\"port\":{port}}",
            "{port;print}",
            "@{port}{x}",
            "%{port}{",
            "{print}{port}",
            "s/{port}/x*/",
            "<b>{name}</b>",
            "localhost:{port};x",
            "--port={port}\n",
        ] {
            assert_eq!(kind_of(&["-p", word]), WordKind::Program, "{word}");
        }
    }

    #[test]
    fn ambiguous_word_is_rejected() {
        for words in [
            &["{port}"][..],
            &["{pid}"],
            &["{name}"],
            &["{dir}"],
            &["-r", "{port}"],
            &["-r", "{name}"],
            &["-p", "{name}"],
            &["--name", "{name}"],
            &["--name={name}"],
            &["-P", "{pid}"],
            &["--report", "{port}"],
            &["--export={port}"],
            &["-I{dir}"],
            &["repo::{name}-{pid}"],
            &["x::{port}"],
            &[".port={port}"],
            &[".a.port={port}"],
            &["port=={port}"],
            &[".a,{port}"],
            &[".x/{port}"],
            &["{port}.x"],
            &["{port}:{port}"],
            &["x{dir}/y"],
            &["http://localhost:{port}/{name}"],
        ] {
            let place = match kind_of(words) {
                WordKind::Ambiguous(place) => place,
                other => panic!("{words:?}: {other:?}"),
            };
            let error =
                ambiguous_error(OsStr::new(words[words.len() - 1]), &place, "redis").to_string();
            for part in ["{redis.", "--fill", "--no-fill"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn name_of_unknown_service_is_not_a_placeholder() {
        for word in [
            "{other.port}",
            "{redis.x}",
            "{}",
            "{port",
            "port}",
            "{po{x}rt}",
        ] {
            assert_eq!(kind_of(&[word]), WordKind::Program, "{word}");
        }
    }
}
