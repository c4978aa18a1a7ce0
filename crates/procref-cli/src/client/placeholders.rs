//! Which of the client's words have placeholders filled in.
//!
//! Shell, jq, JavaScript, Python and template languages write names in braces as procref does: `{port}` is a
//! placeholder, and a whole jq program. So a word is one of three:
//!
//! | a word | example | what becomes of it |
//! |---|---|---|
//! | in which every placeholder stands where a port, a pid or a path stands | `-p {port}`, `http://localhost:{port}/x` | filled in |
//! | with a character that options and addresses do not have | `.[] \| {pid}`, `echo ${port}`, `{{port}}` | passed as it is |
//! | that can be both | `{port}` as an argument of its own | an error, before anything is started |
//!
//! A placeholder with a service's name, as `{db.port}`, is no program in any of these languages, so it is
//! filled in wherever it stands in a word of the first or third kind.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::args::RunArgs;
use crate::error::{Error, Result};
use crate::output::shown;
use crate::resolve::Plan;

/// The longest name between two braces that is compared, as in the library.
const LONGEST: usize = 1024;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Port,
    Pid,
    Name,
    Dir,
    /// Written with the name of a service, or of metadata.
    Full,
}

/// The client's words, and which of them are filled in.
#[derive(Debug)]
pub(crate) struct Words {
    words: Vec<Word>,
    /// The first placeholder that a shell's program keeps.
    kept_by_shell: Option<String>,
}

#[derive(Debug)]
struct Word {
    text: OsString,
    is_filled: bool,
}

impl Words {
    /// Fails if a word can be both an address and a program, and no option says which.
    pub(crate) fn new(args: &RunArgs, plan: &Plan) -> Result<Self> {
        let services = plan.dependencies.iter().chain([&plan.service]);
        let services: Vec<&str> = services.map(|spec| spec.name.as_str()).collect();
        let mut words = Vec::new();
        let mut before = OsStr::new("");
        for text in &args.client {
            let is_filled = match (args.fill, args.no_fill) {
                (true, _) => true,
                (_, true) => false,
                _ => match sort(text, before, &services) {
                    Sort::Address => true,
                    Sort::Program => false,
                    Sort::Both(place) => return Err(doubtful(text, &place, &plan.service.name)),
                },
            };
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

    /// The words as the client gets them.
    pub(crate) fn filled(
        &self,
        fill: impl Fn(&OsStr) -> OsString,
    ) -> impl Iterator<Item = OsString> {
        self.words.iter().map(move |word| match word.is_filled {
            true => fill(&word.text),
            false => word.text.clone(),
        })
    }

    /// The first placeholder that stays as it is in a program for a shell.
    pub(crate) fn kept_by_shell(&self) -> Option<&str> {
        self.kept_by_shell.as_deref()
    }
}

/// A shell does not know names in braces without a `$`, so this one was probably meant to be filled in.
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

/// `-c`, `-ec`, `-lc`: the next word is the shell's program.
fn is_command_option(word: &OsStr) -> bool {
    let word = word.as_encoded_bytes();
    word.starts_with(b"-") && !word.starts_with(b"--") && word.contains(&b'c')
}

fn doubtful(word: &OsStr, place: &str, service: &str) -> Error {
    let (word, service) = (shown(&word.to_string_lossy()), shown(service));
    let what = place.trim_matches(['{', '}']);
    Error::Usage(format!(
        "`{place}` in the client's word `{word}` can be a placeholder or part of a program; write \
         `{{{service}.{what}}}` to have it filled in, or use --fill to fill in all words of the client, or \
         --no-fill to fill in none"
    ))
}

/// What a word is.
#[derive(Debug, PartialEq, Eq)]
enum Sort {
    /// Every placeholder in it, if there is one, is filled in.
    Address,
    Program,
    /// With the first placeholder that decides it, in its braces.
    Both(String),
}

/// `before` is the word before, and `services` are those whose values can be filled in.
fn sort(word: &OsStr, before: &OsStr, services: &[&str]) -> Sort {
    let pieces: Vec<Piece<'_>> = pieces(word.as_encoded_bytes(), services).collect();
    let is_program = pieces.iter().any(|piece| match piece {
        Piece::Literal(text) => !is_plain(text),
        Piece::Place(..) => false,
    });
    if is_program {
        return Sort::Program;
    }
    for (at, piece) in pieces.iter().enumerate() {
        let Piece::Place(name, what) = piece else {
            continue;
        };
        let literal = |at: Option<usize>| match at.and_then(|at| pieces.get(at)) {
            Some(Piece::Literal(text)) => *text,
            _ => b"",
        };
        let around = Around {
            is_whole: pieces.len() == 1,
            is_first: at == 0,
            word_before: before.as_encoded_bytes(),
            before: literal(at.checked_sub(1)),
            after: literal(Some(at + 1)),
        };
        if !around.is_address(*what) {
            return Sort::Both(format!("{{{name}}}"));
        }
    }
    Sort::Address
}

/// What stands around a placeholder.
struct Around<'a> {
    /// The word is the placeholder alone.
    is_whole: bool,
    /// The word begins with the placeholder.
    is_first: bool,
    word_before: &'a [u8],
    /// The literal text before and after it in its word.
    before: &'a [u8],
    after: &'a [u8],
}

impl Around<'_> {
    /// Returns `true` if it stands where a program does not have names in braces.
    fn is_address(&self, what: What) -> bool {
        match what {
            What::Full => true,
            // Every template language has a `{name}`, and the user has typed the service's name anyway.
            What::Name => false,
            What::Port => {
                let is_after_colon = self.before.ends_with(b":") && !self.before.ends_with(b"::");
                is_after_colon || self.is_value(&[b"-p", b"-P"], &["port"])
            }
            What::Pid => self.is_value(&[b"-p"], &["pid"]),
            What::Dir => self.begins_path() || self.is_value(&[b"-h"], &["dir", "host"]),
        }
    }

    /// Returns `true` if it is the value of one of these short options, or of an option or a variable with
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
        // `&port=` in an address, `port=` in a list.
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
        let is_behind = matches!(self.before, [.., b'=' | b':' | b','] | [.., b'/', b'/']);
        is_path && (self.is_first || is_option || is_behind)
    }
}

/// Returns `true` if the last part of an option's or a variable's name is one of these: `--db-port`,
/// `PGPORT`, `serverPort`, `--datadir`. `--report` and `--export` are no ports, and `.port` is jq.
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

/// Returns `true` if options, addresses and paths have all of these characters.
fn is_plain(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let is_plain = match byte {
            // An address of IPv6, and nothing else.
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
    Place(&'a str, What),
}

/// A word in pieces, from left to right: placeholders, and the text between them.
fn pieces<'a>(word: &'a [u8], services: &[&str]) -> impl Iterator<Item = Piece<'a>> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let place = (0..rest.len()).find_map(|at| Some((at, place(&rest[at..], services)?)));
        match place {
            Some((0, (name, what))) => {
                rest = &rest[name.len() + 2..];
                Some(Piece::Place(name, what))
            }
            _ => {
                let (text, behind) = rest.split_at(place.map_or(rest.len(), |(at, _)| at));
                rest = behind;
                Some(Piece::Literal(text))
            }
        }
    })
}

/// The placeholder that a text begins with.
fn place<'a>(text: &'a [u8], services: &[&str]) -> Option<(&'a str, What)> {
    let inside = text.strip_prefix(b"{")?;
    let end = inside.iter().take(LONGEST).position(|&byte| byte == b'}')?;
    let name = std::str::from_utf8(&inside[..end]).ok()?;
    let what = match name {
        "port" => What::Port,
        "pid" => What::Pid,
        "name" => What::Name,
        "dir" => What::Dir,
        _ if name.starts_with("meta.") => What::Full,
        _ => {
            let (service, what) = name.rsplit_once('.')?;
            let is_known = services.contains(&service);
            (is_known && ["port", "pid", "name", "dir"].contains(&what)).then_some(What::Full)?
        }
    };
    Some((name, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: [&str; 2] = ["my db", "redis"];

    fn sorted(words: &[&str]) -> Sort {
        let before = match words {
            [.., before, _] => before,
            _ => "printf",
        };
        sort(
            OsStr::new(words[words.len() - 1]),
            OsStr::new(before),
            &SERVICES,
        )
    }

    #[test]
    fn addresses_are_filled_in() {
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
            assert_eq!(sorted(words), Sort::Address, "{words:?}");
        }
    }

    #[test]
    fn programs_stay_as_they_are() {
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
            assert_eq!(sorted(&["-p", word]), Sort::Program, "{word}");
        }
    }

    #[test]
    fn doubtful_words_are_refused() {
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
            let place = match sorted(words) {
                Sort::Both(place) => place,
                other => panic!("{words:?}: {other:?}"),
            };
            let error = doubtful(OsStr::new(words[words.len() - 1]), &place, "redis").to_string();
            for part in ["{redis.", "--fill", "--no-fill"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn names_of_other_services_are_no_placeholders() {
        for word in [
            "{other.port}",
            "{redis.x}",
            "{}",
            "{port",
            "port}",
            "{po{x}rt}",
        ] {
            assert_eq!(sorted(&[word]), Sort::Program, "{word}");
        }
    }
}
