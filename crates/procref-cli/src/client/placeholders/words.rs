//! Classifies a word of the client's command line by the text around its placeholders.

use std::ffi::OsStr;

/// The longest name in braces that is compared. The library has the same limit.
const LONGEST: usize = 1024;

/// The kind of value that a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceholderKind {
    Port,
    Pid,
    Name,
    Dir,
    /// A value with the name of its service, or metadata.
    Qualified,
}

/// The kind of a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WordKind {
    /// All placeholders in the word are filled in.
    Address,
    /// The word is passed unchanged.
    Program,
    /// The word could be both. Contains the first such placeholder, in braces.
    Ambiguous(String),
}

/// Classifies a word. `before` is the previous word, and `services` are the services whose values can be filled in.
pub(super) fn classify(word: &OsStr, before: &OsStr, services: &[&str]) -> WordKind {
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

pub(super) enum Piece<'a> {
    Literal(&'a [u8]),
    Place(&'a str, PlaceholderKind),
}

/// Splits a word into placeholders and the text between them.
pub(super) fn pieces<'a>(word: &'a [u8], services: &[&str]) -> impl Iterator<Item = Piece<'a>> {
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
pub(in crate::client) fn value_of<'a>(service: &str, place: &'a str) -> Option<&'a str> {
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
    use super::super::ambiguous_error;
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
