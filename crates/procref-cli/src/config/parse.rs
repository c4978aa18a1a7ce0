//! From the text of a file to what is written in it, and every mistake with its place.

use std::mem;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::diagnostic::{ConfigError, Problem, Source, meant, suggestion};
use super::schema::{self, Keys};

/// What is written in a file.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) shared: Option<bool>,
    /// The names of all services, also of those that are not understood.
    pub(super) names: Vec<String>,
    /// In the order of their names.
    pub(super) services: Vec<WrittenService>,
    /// Everything that is wrong so far. What is right is read nevertheless, so that all mistakes are told at once.
    pub(super) problems: Vec<Problem>,
}

#[derive(Debug)]
pub(super) struct WrittenService {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Range<usize>,
    pub(super) keys: Keys,
    /// The keys that are missing in that, as their values are wrong.
    pub(super) wrong: Vec<String>,
}

/// Most mistakes that are told of one service. Each takes another look at its table.
const MOST: usize = 100;

/// Fails if the text is no TOML: then nothing in it is sure.
pub(super) fn parse(file: &Path, text: &str) -> Result<Written, ConfigError> {
    let source = Source { file, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors.iter().map(|error| {
            let message = format!("this is no TOML: {}", one_line(error.message()));
            source.problem(error.span(), message)
        });
        return Err(ConfigError {
            problems: problems.collect(),
        });
    }
    let mut reader = Reader {
        source,
        problems: Vec::new(),
    };
    let written = reader.file(document.into_inner());
    Ok(Written {
        problems: reader.problems,
        ..written
    })
}

struct Reader<'a> {
    source: Source<'a>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(self.source.problem(Some(span), message));
    }

    fn file(&mut self, table: DeTable<'_>) -> Written {
        let mut written = Written::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "shared" => match value.get_ref().as_bool() {
                    Some(shared) => written.shared = Some(shared),
                    None => self.problem(value.span(), "`shared` is true or false"),
                },
                "services" => (written.names, written.services) = self.services(value),
                other => {
                    let message = self.unknown_in_file(other, value.get_ref());
                    self.problem(key.span(), message);
                }
            }
        }
        written
    }

    fn unknown_in_file(&self, key: &str, value: &DeValue<'_>) -> String {
        // `[pg]` in place of `[services.pg]` is what is forgotten most.
        if value.is_table() && strsim::jaro_winkler(key, "services") < 0.8 {
            return format!("a service's table is called `[services.{key}]`, not `[{key}]`");
        }
        let suggested = suggestion(key, schema::OF_FILE.iter().copied());
        format!("unknown key `{key}`{suggested}")
    }

    fn services(&mut self, value: Spanned<DeValue<'_>>) -> (Vec<String>, Vec<WrittenService>) {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.problem(span, "`services` is a table: write `[services.NAME]`");
            return (Vec::new(), Vec::new());
        };
        let names = table.keys().map(|name| name.get_ref().to_string());
        let names = names.collect();
        let services = table.into_iter().filter_map(|(name, value)| {
            let span = name.span();
            let name = name.into_inner().into_owned();
            let (keys, wrong) = self.service(&name, value)?;
            Some(WrittenService {
                name,
                span,
                keys,
                wrong,
            })
        });
        (names, services.collect())
    }

    /// What is right in the table of a service, and which keys are not.
    fn service(&mut self, name: &str, value: Spanned<DeValue<'_>>) -> Option<(Keys, Vec<String>)> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let message = format!("service `{name}` is a table: write `[services.{name}]`");
            self.problem(span, message);
            return None;
        };
        let mut wrong = Vec::new();
        for key in table.keys() {
            let written = key.get_ref().as_ref();
            if !schema::OF_SERVICE.contains(&written) {
                let suggested = suggestion(written, schema::OF_SERVICE.iter().copied());
                let message = format!("service `{name}`: unknown key `{written}`{suggested}");
                self.problem(key.span(), message);
                wrong.push(written.to_owned());
                // `strat` is meant for `start`, which is not missing then.
                wrong.extend(meant(written, schema::OF_SERVICE.iter().copied()).map(str::to_owned));
            }
        }
        let known = |key: &str| schema::OF_SERVICE.contains(&key);
        let entries = table.into_iter();
        let mut table: DeTable<'_> = entries.filter(|(key, _)| known(key.get_ref())).collect();
        // The first mistake ends the reading. So what is wrong is taken out, and the rest read again.
        for _ in 0..MOST {
            let whole = Spanned::new(span.clone(), DeValue::Table(table.clone()));
            let error = match Keys::deserialize(ValueDeserializer::from(whole)) {
                Ok(keys) => return Some((keys, wrong)),
                Err(error) => error,
            };
            let at = error.span().unwrap_or_else(|| span.clone());
            let key = take_out(&mut table, &at);
            let named = key
                .as_ref()
                .map_or(String::new(), |key| format!("`{key}`: "));
            let message = one_line(error.message());
            self.problem(at, format!("service `{name}`: {named}{message}"));
            wrong.push(key?);
        }
        None
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Takes the value at a place out of the table of a service, or out of an array or a table in it. Returns the key
/// of the service that it belongs to; `None` if there is no value at that place.
fn take_out(table: &mut DeTable<'_>, place: &Range<usize>) -> Option<String> {
    let (key, value) = table
        .iter_mut()
        .find(|(_, value)| holds(&value.span(), place))?;
    let key = key.get_ref().to_string();
    let is_inside = match value.get_mut() {
        DeValue::Array(array) => {
            let known = array.len();
            let rest = mem::replace(array, DeArray::new()).into_iter();
            *array = rest.filter(|it| !holds(&it.span(), place)).collect();
            array.len() < known
        }
        DeValue::Table(inner) => {
            let known = inner.len();
            let rest = mem::take(inner).into_iter();
            *inner = rest.filter(|(_, it)| !holds(&it.span(), place)).collect();
            inner.len() < known
        }
        _ => false,
    };
    if !is_inside {
        let rest = mem::take(table).into_iter();
        *table = rest.filter(|(it, _)| *it.get_ref() != key).collect();
    }
    Some(key)
}

fn one_line(message: &str) -> String {
    message.trim_end().replace('\n', ", ")
}
