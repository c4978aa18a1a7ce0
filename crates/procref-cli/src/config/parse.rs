//! From the text of a file to what is written in it, and every mistake with its place.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::keys::{self, Keys};
use super::problem::{ConfigError, Problem, Source, suggestion};

/// What is written in a file.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) shared: Option<bool>,
    /// In the order of their names.
    pub(super) services: Vec<WrittenService>,
}

#[derive(Debug)]
pub(super) struct WrittenService {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) span: Range<usize>,
    pub(super) keys: Keys,
}

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
    match reader.problems.is_empty() {
        true => Ok(written),
        false => Err(ConfigError {
            problems: reader.problems,
        }),
    }
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
        let mut written = Written {
            shared: None,
            services: Vec::new(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "shared" => match value.get_ref().as_bool() {
                    Some(shared) => written.shared = Some(shared),
                    None => self.problem(value.span(), "`shared` is true or false"),
                },
                "services" => written.services = self.services(value),
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
        let suggested = suggestion(key, keys::OF_FILE.iter().copied());
        format!("unknown key `{key}`{suggested}")
    }

    fn services(&mut self, value: Spanned<DeValue<'_>>) -> Vec<WrittenService> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.problem(span, "`services` is a table: write `[services.NAME]`");
            return Vec::new();
        };
        let services = table.into_iter().filter_map(|(name, value)| {
            let span = name.span();
            let name = name.into_inner().into_owned();
            let keys = self.service(&name, value)?;
            Some(WrittenService { name, span, keys })
        });
        services.collect()
    }

    fn service(&mut self, name: &str, value: Spanned<DeValue<'_>>) -> Option<Keys> {
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("service `{name}` is a table: write `[services.{name}]`");
            self.problem(value.span(), message);
            return None;
        };
        let known_before = self.problems.len();
        for key in table.keys() {
            let written = key.get_ref().as_ref();
            if !keys::OF_SERVICE.contains(&written) {
                let suggested = suggestion(written, keys::OF_SERVICE.iter().copied());
                let message = format!("service `{name}`: unknown key `{written}`{suggested}");
                self.problem(key.span(), message);
            }
        }
        if self.problems.len() > known_before {
            return None;
        }
        let span = value.span();
        let places: Vec<(String, Range<usize>)> = table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), value.span()))
            .collect();
        match Keys::deserialize(ValueDeserializer::from(value)) {
            Ok(keys) => Some(keys),
            Err(error) => {
                let span = error.span().unwrap_or(span);
                let holds =
                    |place: &Range<usize>| place.start <= span.start && span.end <= place.end;
                let key = places.iter().find(|(_, place)| holds(place));
                let key = key.map_or(String::new(), |(key, _)| format!("`{key}`: "));
                let message = one_line(error.message());
                self.problem(span, format!("service `{name}`: {key}{message}"));
                None
            }
        }
    }
}

fn one_line(message: &str) -> String {
    message.trim_end().replace('\n', ", ")
}
