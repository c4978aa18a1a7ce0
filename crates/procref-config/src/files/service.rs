//! Converts the keys of a service to its description: makes paths absolute, and fills in values that are the same at
//! each start.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::clusters::{self, Clusters};
use super::diagnostic::{Diagnostic, SourceText, suggestion};
use super::find::Trust;
use super::host::HostText;
use super::parse::ParsedService;
use super::schema::{CommandWords, Scalar};
use super::template::{AtStart, OWN, fill, uses};
use crate::cluster::ClusterSpec;
use crate::spec::{Prestart, ServiceSpec};

mod paths;
mod placeholders;
mod probes;
mod variables;

pub(super) use variables::is_path;

use paths::clean;
use placeholders::texts;
use variables::is_variable;

/// A service that a file describes.
#[derive(Debug)]
pub(super) struct ConfiguredService {
    /// The description, without the runtime directory and the dependencies.
    pub(super) spec: ServiceSpec,
    pub(super) depends_on: Vec<String>,
    pub(super) shared: bool,
    /// The programs of `ready` and `health`, with these keys.
    pub(super) probe_programs: Vec<(&'static str, String)>,
    /// The dependencies whose ports are used, with the keys of the texts.
    pub(super) used_ports: Vec<(&'static str, String)>,
    /// Messages about texts that look like placeholders and are none.
    pub(super) warnings: Vec<String>,
    /// Line and column of the name.
    pub(super) position: (usize, usize),
}

/// The properties that all services of a file share.
pub(super) struct ServiceContext<'a> {
    pub(super) source: SourceText<'a>,
    /// The file's directory.
    pub(super) root: &'a Path,
    /// Why the file may be used.
    pub(super) trust: Trust,
    /// The default for services without `shared`.
    pub(super) shared: bool,
    /// The names of all services that can be dependencies.
    pub(super) names: &'a [&'a str],
    /// The clusters of the file.
    pub(super) clusters: &'a Clusters,
}

impl ServiceContext<'_> {
    /// Returns the service. If it has errors, appends them to `diagnostics` and returns `None`.
    pub(super) fn service(
        &self,
        written: ParsedService,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ConfiguredService> {
        let ParsedService {
            name,
            span,
            keys,
            invalid,
        } = written;
        let known_before = diagnostics.len();
        let mut refuse = |at: Option<Range<usize>>, what: String| {
            let at = at.unwrap_or_else(|| span.clone());
            let message = format!("service `{name}`: {what}");
            diagnostics.push(self.source.diagnostic(Some(at), message));
        };
        // A key with an invalid value was already reported, so it is not missing.
        let is_invalid = |key: &str| invalid.iter().any(|invalid| invalid == key);
        let root = self.root.to_str().unwrap_or_else(|| {
            refuse(
                None,
                "the path of the file's directory is not UTF-8".to_owned(),
            );
            ""
        });
        if keys.start.is_none() && !is_invalid("start") {
            let what = "`start`, the command that starts the service, is missing";
            refuse(None, what.to_owned());
        }
        let mut data = None;
        if let Some(written) = &keys.data {
            match self.data_dir(written.get_ref()) {
                Ok(dir) => data = Some(dir),
                Err(reason) => refuse(Some(written.span()), format!("`data`: {reason}")),
            }
        }
        let has_data = keys.data.is_some() || is_invalid("data");
        if keys.init.is_some() && !has_data {
            let what = "`init` needs `data`, the directory that it fills";
            refuse(None, what.to_owned());
        }
        if !has_data && texts(&keys).any(|(_, text)| uses(text, "data")) {
            refuse(None, "`{data}` is used, but `data` is not set".to_owned());
        }
        for dependency in &keys.depends_on {
            let name = dependency.get_ref();
            if !self.names.contains(&name.as_str()) {
                let suggested = suggestion(name, self.names.iter().copied());
                let what = format!("unknown service `{name}` in `depends-on`{suggested}");
                refuse(Some(dependency.span()), what);
            }
        }
        let depends_on: Vec<String> = keys
            .depends_on
            .iter()
            .map(|it| it.get_ref().clone())
            .collect();
        if !is_invalid("depends-on") {
            self.check_uses(&keys, &depends_on, |what| refuse(None, what));
        }
        for (key, table) in [("env", &keys.env), ("export", &keys.export)] {
            for (name, value) in table {
                let variable = name.get_ref();
                if !is_variable(variable) {
                    let what = format!("`{key}`: invalid name of a variable {variable:?}");
                    refuse(Some(name.span()), what);
                } else if value.get_ref().0.contains('\0') {
                    let what = format!("`{key}`: {variable}: the value contains a NUL character");
                    refuse(Some(value.span()), what);
                }
            }
        }
        let value_of = |name: &str| match name {
            "root" => Some(root.to_owned()),
            "data" => data.clone(),
            _ => None,
        };
        // The library fills in these texts, and it has no values of other services.
        let by_library = |text: &str| fill(text, OWN, value_of);
        let filled = |text: &str| fill(text, AtStart(&depends_on), value_of);
        let (mut ready, mut ready_text) = (None, None);
        if let Some(text) = &keys.ready {
            match self.readiness(text.get_ref(), by_library) {
                Ok((when, text)) => (ready, ready_text) = (Some(when), Some(text)),
                Err(reason) => refuse(Some(text.span()), format!("`ready`: {reason}")),
            }
        }
        let mut health = None;
        if let Some(text) = &keys.health {
            match self.health(text.get_ref(), by_library) {
                Ok(check) => health = Some(check),
                Err(reason) => refuse(Some(text.span()), format!("`health`: {reason}")),
            }
        } else if keys.health_timeout.is_some() && !is_invalid("health") {
            let what = "`health-timeout` needs `health`";
            refuse(None, what.to_owned());
        }
        let mut cluster = None;
        if let Some(named) = &keys.cluster {
            match clusters::find(named.get_ref(), self.clusters) {
                Ok(url) => {
                    cluster = Some(ClusterSpec {
                        url,
                        advertise: keys.advertise.as_ref().map(|it| it.get_ref().clone()),
                        takeover: keys.takeover.clone(),
                        at: keys.at.as_ref().map(|it| it.get_ref().clone()),
                    });
                }
                Err(reason) => refuse(Some(named.span()), format!("`cluster`: {reason}")),
            }
        } else if !is_invalid("cluster") {
            let needed = [
                ("advertise", keys.advertise.is_some()),
                ("takeover", keys.takeover.is_some()),
                ("at", keys.at.is_some()),
            ];
            for (key, _) in needed.into_iter().filter(|(_, is_set)| *is_set) {
                refuse(None, format!("`{key}` needs `cluster`"));
            }
        }
        for (key, what, value) in [
            ("advertise", "address", &keys.advertise),
            ("at", "name", &keys.at),
        ] {
            if let Some(empty) = value.as_ref().filter(|it| it.get_ref().is_empty()) {
                refuse(Some(empty.span()), format!("`{key}`: the {what} is empty"));
            }
        }
        let argv = |words: &CommandWords| -> Vec<OsString> {
            let mut words = words.0.iter();
            let program = words
                .next()
                .map(|program| self.program(program, AtStart(&depends_on), filled));
            program
                .into_iter()
                .chain(words.map(|word| filled(word)))
                .map(OsString::from)
                .collect()
        };
        let mut env = Vec::new();
        for file in &keys.env_file {
            match self.env_file(file.get_ref(), AtStart(&depends_on)) {
                Ok(variables) => env.extend(variables),
                Err(reason) => refuse(Some(file.span()), format!("`env-file`: {reason}")),
            }
        }
        let mut pairs = |key: &str, table: &BTreeMap<Spanned<String>, Spanned<Scalar>>| {
            let mut filled = Vec::new();
            for (name, value) in table {
                let from_host = |name: &str| env::var(name).ok();
                match HostText::parse(&value.get_ref().0, from_host) {
                    Ok(text) => {
                        let value = text.fill(AtStart(&depends_on), value_of);
                        filled.push((name.get_ref().clone(), value));
                    }
                    Err(reason) => {
                        let variable = name.get_ref();
                        let what = format!("`{key}`: {variable}: {reason}");
                        refuse(Some(value.span()), what);
                    }
                }
            }
            filled
        };
        env.extend(pairs("env", &keys.env));
        let export = pairs("export", &keys.export);
        if let Err(reason) = self.extend_path(&keys, AtStart(&depends_on), &mut env) {
            refuse(None, reason);
        }
        let user = match &keys.user {
            Some(user) if user.get_ref().is_empty() => {
                refuse(Some(user.span()), "`user`: the name is empty".to_owned());
                None
            }
            user => user.as_ref().map(|user| user.get_ref().clone()),
        };
        let mut path = |key: &str, path: Option<&Path>| {
            let path = path?.to_str().unwrap_or_default();
            if path.is_empty() {
                refuse(None, format!("`{key}`: the path is empty"));
            }
            Some(PathBuf::from(self.below_root(path, OWN, by_library)))
        };
        let cwd = path("cwd", Some(keys.cwd.as_deref().unwrap_or(Path::new("."))));
        let log = path("log", keys.log.as_deref());
        let spec = ServiceSpec {
            start: keys.start.as_ref().map(argv),
            env,
            cwd: cwd.as_deref().map(clean),
            port: keys.port,
            ready,
            ready_text,
            cluster,
            health,
            health_timeout: keys.health_timeout,
            stop_signal: keys.stop_signal,
            grace: keys.grace,
            linger: keys.linger,
            log,
            fingerprint: keys.fingerprint.clone(),
            mismatch: keys.mismatch,
            start_timeout: keys.start_timeout,
            wait_timeout: keys.wait_timeout,
            export,
            prestart: Prestart {
                init: keys.init.as_ref().map(argv),
                data: data.clone(),
                depends_on: depends_on.clone(),
                dependencies: Vec::new(),
                user,
            },
            ..ServiceSpec::named(&name)
        };
        if let Some(reason) = spec.unshareable_reason() {
            refuse(None, reason.to_owned());
        }
        if let Some(variable) = spec.export_without_port() {
            let mut variables = keys.export.iter();
            let written = variables.find(|(name, _)| name.get_ref() == variable);
            let what = format!(
                "`export`: {variable}: `{{port}}` is used, but the service has no port (set `port`, or write `{{port}}` \
                 in `start`)"
            );
            refuse(written.map(|(_, value)| value.span()), what);
        }
        if diagnostics.len() > known_before || !invalid.is_empty() {
            return None;
        }
        Some(ConfiguredService {
            spec,
            shared: keys.shared.unwrap_or(self.shared),
            probe_programs: self.probe_programs(&keys, by_library),
            used_ports: placeholders::used_ports(&keys, &depends_on),
            warnings: self.unknown_placeholders(&keys, &depends_on),
            position: self.source.position(span.start),
            depends_on,
        })
    }
}
