//! Parses the text of a file, and reports each error with its position.

use std::mem;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::diagnostic::{ConfigError, Diagnostic, SourceText, suggestion};
use super::foreign_keys;
use super::keys::{OF_CLUSTER, OF_FILE, OF_SERVICE};
use super::schema::{ClusterKeys, ServiceKeys};

/// A file whose values have the right form.
#[derive(Debug, Default)]
pub(super) struct ParsedFile {
    pub(super) shared: Option<bool>,
    pub(super) default: Option<Vec<Spanned<String>>>,
    /// The names of all services, including those with errors.
    pub(super) names: Vec<String>,
    /// The services in the order of their names.
    pub(super) services: Vec<ParsedService>,
    /// The clusters with their positions.
    pub(super) clusters: Vec<(Spanned<String>, ClusterKeys)>,
    /// The errors so far. Valid parts are parsed anyway, so that all errors are reported at once.
    pub(super) diagnostics: Vec<Diagnostic>,
}

#[derive(Debug)]
pub(super) struct ParsedService {
    pub(super) name: String,
    /// The position of the name.
    pub(super) span: Range<usize>,
    pub(super) keys: ServiceKeys,
    /// Keys that are missing in `keys` because their values are invalid.
    pub(super) invalid: Vec<String>,
}

/// The largest number of errors that are reported for a service. Each error parses the table again.
const MAX_ERRORS: usize = 100;

/// Parses a file. Fails if the text is not TOML, because an error of the syntax can change the meaning of all
/// of it.
pub(super) fn parse(file: &Path, text: &str) -> Result<ParsedFile, ConfigError> {
    let source = SourceText { file, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let diagnostics = errors.iter().map(|error| {
            let message = format!("invalid TOML: {}", one_line(error.message()));
            source.diagnostic(error.span(), message)
        });
        return Err(ConfigError {
            diagnostics: diagnostics.collect(),
        });
    }
    let mut reader = Reader {
        source,
        diagnostics: Vec::new(),
    };
    let parsed = reader.file(document.into_inner());
    Ok(ParsedFile {
        diagnostics: reader.diagnostics,
        ..parsed
    })
}

struct Reader<'a> {
    source: SourceText<'a>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn diagnostic(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.diagnostics
            .push(self.source.diagnostic(Some(span), message));
    }

    fn file(&mut self, table: DeTable<'_>) -> ParsedFile {
        let mut parsed = ParsedFile::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "shared" => match value.get_ref().as_bool() {
                    Some(shared) => parsed.shared = Some(shared),
                    None => self.diagnostic(value.span(), "`shared` must be true or false"),
                },
                "default" => parsed.default = self.names(value),
                "clusters" => parsed.clusters = self.clusters(value),
                "services" => (parsed.names, parsed.services) = self.services(value),
                other => {
                    let message = self.unknown_in_file(other, value.get_ref());
                    self.diagnostic(key.span(), message);
                }
            }
        }
        parsed
    }

    /// Parses a list of names, or one name.
    fn names(&mut self, value: Spanned<DeValue<'_>>) -> Option<Vec<Spanned<String>>> {
        let span = value.span();
        let items = match value.into_inner() {
            DeValue::Array(items) => items.into_iter().collect(),
            other => vec![Spanned::new(span.clone(), other)],
        };
        let names = items.into_iter().map(|item| {
            let span = item.span();
            let text = item.get_ref().as_str()?.to_owned();
            Some(Spanned::new(span, text))
        });
        let names: Option<Vec<_>> = names.collect();
        let names = names.filter(|names| !names.is_empty());
        if names.is_none() {
            let what = "`default` must be a list of names of services, such as [\"db\"]";
            self.diagnostic(span, what);
        }
        names
    }

    fn unknown_in_file(&self, key: &str, value: &DeValue<'_>) -> String {
        // The most common mistake is `[pg]` instead of `[services.pg]`.
        if value.is_table() && strsim::jaro_winkler(key, "services") < 0.8 {
            return format!("unknown table `[{key}]`; write `[services.{key}]` for a service");
        }
        let suggested = suggestion(key, OF_FILE.iter().copied());
        format!("unknown key `{key}`{suggested}")
    }

    fn clusters(&mut self, value: Spanned<DeValue<'_>>) -> Vec<(Spanned<String>, ClusterKeys)> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.diagnostic(span, "`clusters` must be a table; write `[clusters.NAME]`");
            return Vec::new();
        };
        let mut clusters = Vec::new();
        for (name, value) in table {
            let (at, name) = (name.span(), name.into_inner().into_owned());
            let unknown = match value.get_ref() {
                DeValue::Table(keys) => keys
                    .keys()
                    .find(|key| !OF_CLUSTER.contains(&key.get_ref().as_ref()))
                    .map(|key| (key.span(), key.get_ref().to_string())),
                _ => None,
            };
            if let Some((at, key)) = unknown {
                let suggested = suggestion(&key, OF_CLUSTER.iter().copied());
                self.diagnostic(
                    at,
                    format!("cluster `{name}`: unknown key `{key}`{suggested}"),
                );
                continue;
            }
            let span = value.span();
            match ClusterKeys::deserialize(ValueDeserializer::from(value)) {
                Ok(keys) => clusters.push((Spanned::new(at, name), keys)),
                Err(error) => {
                    let message = format!("cluster `{name}`: {}", one_line(error.message()));
                    self.diagnostic(error.span().unwrap_or(span), message);
                }
            }
        }
        clusters
    }

    fn services(&mut self, value: Spanned<DeValue<'_>>) -> (Vec<String>, Vec<ParsedService>) {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.diagnostic(span, "`services` must be a table; write `[services.NAME]`");
            return (Vec::new(), Vec::new());
        };
        let names = table.keys().map(|name| name.get_ref().to_string());
        let names = names.collect();
        let services = table.into_iter().filter_map(|(name, value)| {
            let span = name.span();
            let name = name.into_inner().into_owned();
            let (keys, invalid) = self.service(&name, value)?;
            Some(ParsedService {
                name,
                span,
                keys,
                invalid,
            })
        });
        (names, services.collect())
    }

    /// Parses the table of a service. Returns the valid keys, and the names of the invalid ones.
    fn service(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'_>>,
    ) -> Option<(ServiceKeys, Vec<String>)> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let message = format!("service `{name}` must be a table; write `[services.{name}]`");
            self.diagnostic(span, message);
            return None;
        };
        let mut invalid = Vec::new();
        for key in table.keys() {
            let written = key.get_ref().as_ref();
            if !OF_SERVICE.contains(&written) {
                let (advice, meant) = foreign_keys::advice(written);
                let message = format!("service `{name}`: unknown key `{written}`{advice}");
                self.diagnostic(key.span(), message);
                invalid.push(written.to_owned());
                // `strat` probably means `start`. Then `start` is not reported as missing.
                invalid.extend(meant.map(str::to_owned));
            }
        }
        let known = |key: &str| OF_SERVICE.contains(&key);
        let entries = table.into_iter();
        let mut table: DeTable<'_> = entries.filter(|(key, _)| known(key.get_ref())).collect();
        // The parser stops at the first error. The invalid value is removed, and the rest is parsed again.
        for _ in 0..MAX_ERRORS {
            let whole = Spanned::new(span.clone(), DeValue::Table(table.clone()));
            let error = match ServiceKeys::deserialize(ValueDeserializer::from(whole)) {
                Ok(keys) => return Some((keys, invalid)),
                Err(error) => error,
            };
            let at = error.span().unwrap_or_else(|| span.clone());
            let key = remove_at(&mut table, &at);
            let named = key
                .as_ref()
                .map_or(String::new(), |key| format!("`{key}`: "));
            let message = one_line(error.message());
            self.diagnostic(at, format!("service `{name}`: {named}{message}"));
            invalid.push(key?);
        }
        None
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Removes the value at a position from the table of a service, or from an array or a table in it. Returns the key of
/// the service that the value belongs to, or `None` if there is no value at the position.
fn remove_at(table: &mut DeTable<'_>, position: &Range<usize>) -> Option<String> {
    let (key, value) = table
        .iter_mut()
        .find(|(_, value)| holds(&value.span(), position))?;
    let key = key.get_ref().to_string();
    let is_inside = match value.get_mut() {
        DeValue::Array(array) => {
            let length = array.len();
            let rest = mem::replace(array, DeArray::new()).into_iter();
            *array = rest.filter(|it| !holds(&it.span(), position)).collect();
            array.len() < length
        }
        DeValue::Table(inner) => {
            let length = inner.len();
            let rest = mem::take(inner).into_iter();
            *inner = rest
                .filter(|(_, it)| !holds(&it.span(), position))
                .collect();
            inner.len() < length
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
