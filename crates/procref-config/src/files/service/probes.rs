//! The readiness probe and the health probe of a service.

use procref::Ready;

use super::ServiceContext;
use crate::files::schema::ServiceKeys;
use crate::files::template::OWN;
use crate::value_parsers::{self, Health, When};

/// A probe of a service.
enum Probe {
    /// A probe in its text form.
    Text(String),
    /// A program and its arguments.
    Command(Vec<String>),
}

fn asked(words: &[String]) -> Ready {
    let (program, args) = words.split_first().expect("the name of a program");
    Ready::command(program, args)
}

impl ServiceContext<'_> {
    pub(super) fn readiness(
        &self,
        text: &str,
        filled: impl Fn(&str) -> String,
    ) -> Result<(When, String), String> {
        match self.probe(text, filled)? {
            Probe::Command(words) => {
                let text = format!("cmd:{}", shell_words::join(&words));
                Ok((When::Asked(asked(&words)), text))
            }
            Probe::Text(text) => Ok((value_parsers::ready(&text)?, text)),
        }
    }

    pub(super) fn health(
        &self,
        text: &str,
        filled: impl Fn(&str) -> String,
    ) -> Result<Health, String> {
        match self.probe(text, filled)? {
            Probe::Command(words) => Ok(Health::Asked(asked(&words))),
            Probe::Text(text) => value_parsers::health(&text),
        }
    }

    /// Fills in a probe, and makes its paths absolute.
    fn probe(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<Probe, String> {
        Ok(Probe::Text(match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => {
                format!("unix:{}", self.below_root(path, OWN, filled))
            }
            Some(("cmd", command)) => {
                // Each word is filled in separately, because a path may have spaces.
                let words = value_parsers::words(command)?;
                let mut words = words.iter();
                let program = words
                    .next()
                    .map(|program| self.program(program, OWN, &filled));
                let program = program.unwrap_or_default();
                let args = words.map(|word| filled(word));
                return Ok(Probe::Command([program].into_iter().chain(args).collect()));
            }
            Some(("http", path)) => format!("http:{}", filled(path)),
            _ => text.to_owned(),
        }))
    }

    /// Returns the programs of `ready` and `health`, with these keys.
    pub(super) fn probe_programs(
        &self,
        keys: &ServiceKeys,
        filled: impl Fn(&str) -> String,
    ) -> Vec<(&'static str, String)> {
        let probes = [("ready", &keys.ready), ("health", &keys.health)];
        let programs = probes.into_iter().filter_map(|(key, probe)| {
            let command = probe.as_ref()?.get_ref().strip_prefix("cmd:")?;
            let words = value_parsers::words(command).ok()?;
            Some((key, self.program(words.first()?, OWN, &filled)))
        });
        programs.collect()
    }
}
