//! Checks the placeholders in the texts of a service.

use toml::Spanned;

use super::ServiceContext;
use crate::files::diagnostic::{listed, most_similar, suggestion};
use crate::files::schema::ServiceKeys;
use crate::files::template::{places, uses};

/// The keys in which placeholders of other services are filled in. The library fills in the others, and has only the
/// values of the service itself.
const OF_OTHERS: [&str; 4] = ["start", "init", "env", "export"];

impl ServiceContext<'_> {
    /// Reports placeholders such as `{redis.port}` of services that are not in `depends-on`, and in keys in which no
    /// placeholder of another service has a value.
    pub(super) fn check_uses(
        &self,
        keys: &ServiceKeys,
        depends_on: &[String],
        mut refuse: impl FnMut(String),
    ) {
        for name in self.names {
            let is_dependency = depends_on.iter().any(|it| it == name);
            for what in ["port", "dir"] {
                let place = format!("{name}.{what}");
                let mut used = texts(keys).filter(|(_, text)| uses(text, &place));
                if !is_dependency && used.next().is_some() {
                    refuse(format!(
                        "`{{{place}}}` is used, but `{name}` is not in `depends-on`"
                    ));
                } else if let Some((key, _)) = used.find(|(key, _)| !OF_OTHERS.contains(key)) {
                    refuse(format!(
                        "`{key}`: `{{{place}}}` has no value here, only in {}",
                        listed(&OF_OTHERS)
                    ));
                }
            }
        }
    }

    /// Returns messages about names in braces that are probably misspelled placeholders.
    ///
    /// They are no errors, because other programs also use names in braces, and procref passes unknown ones on.
    pub(super) fn unknown_placeholders(
        &self,
        keys: &ServiceKeys,
        depends_on: &[String],
    ) -> Vec<String> {
        let mut known = ["port", "dir", "data", "root"].map(str::to_owned).to_vec();
        for name in depends_on {
            known.extend([format!("{name}.port"), format!("{name}.dir")]);
        }
        let found = texts(keys).flat_map(|(key, text)| places(text).map(move |place| (key, place)));
        let unknown = found.filter(|(_, place)| !known.iter().any(|known| known == place));
        let message = |(key, place): (&str, &str)| {
            let (service, what) = place.rsplit_once('.').unwrap_or(("", place));
            let reason = if !service.is_empty() && ["port", "dir"].contains(&what) {
                let suggested = suggestion(service, self.names.iter().copied());
                format!("there is no service `{service}`{suggested}")
            } else {
                let lower = place.to_ascii_lowercase();
                let similar = most_similar(&lower, known.iter().map(String::as_str))?;
                format!("did you mean `{{{similar}}}`?")
            };
            Some(format!(
                "`{key}`: `{{{place}}}` is not a placeholder, and stays as it is; {reason}"
            ))
        };
        let mut messages: Vec<String> = unknown.filter_map(message).collect();
        messages.dedup();
        messages
    }
}

/// Returns the dependencies whose ports are used, with the keys of the texts.
pub(super) fn used_ports(keys: &ServiceKeys, depends_on: &[String]) -> Vec<(&'static str, String)> {
    let mut used = Vec::new();
    for name in depends_on {
        let place = format!("{name}.port");
        let mut texts = texts(keys);
        if let Some((key, _)) = texts.find(|(_, text)| uses(text, &place)) {
            used.push((key, name.clone()));
        }
    }
    used
}

/// Returns all texts in which placeholders are filled in, with their keys.
pub(super) fn texts(keys: &ServiceKeys) -> impl Iterator<Item = (&'static str, &str)> {
    let commands = [("start", &keys.start), ("init", &keys.init)];
    let words = commands.into_iter().flat_map(|(key, words)| {
        let words = words.iter().flat_map(|words| &words.0);
        words.map(move |word| (key, word.as_str()))
    });
    let tables = [("env", &keys.env), ("export", &keys.export)];
    let values = tables.into_iter().flat_map(|(key, table)| {
        let values = table.values();
        values.map(move |value| (key, value.get_ref().0.as_str()))
    });
    let probes = [("ready", &keys.ready), ("health", &keys.health)];
    let probes = probes.into_iter().filter_map(|(key, probe)| {
        let probe = probe.as_ref().map(Spanned::get_ref)?;
        Some((key, probe.as_str()))
    });
    let paths = [("cwd", &keys.cwd), ("log", &keys.log)];
    let paths = paths
        .into_iter()
        .filter_map(|(key, path)| Some((key, path.as_ref()?.to_str()?)));
    words.chain(values).chain(probes).chain(paths)
}
