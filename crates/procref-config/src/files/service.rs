//! Converts the keys of a service to its description: makes paths absolute, and fills in values that are the same at
//! each start.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Component, Path, PathBuf, is_separator};

use procref::Ready;
use toml::Spanned;

use super::diagnostic::{Diagnostic, SourceText, suggestion};
use super::find::{self, Trust};
use super::host::HostText;
use super::parse::ParsedService;
use super::schema::{CommandWords, Scalar, ServiceKeys};
use super::template::{AtStart, OWN, fill, uses};
use crate::spec::{Prestart, ServiceSpec};
use crate::value_parsers::{self, Health, When};

/// The separator of the directories in `PATH`.
const PATH_SEPARATOR: &str = if cfg!(windows) { ";" } else { ":" };

/// A service that a file describes.
#[derive(Debug)]
pub(super) struct ConfiguredService {
    /// The description, without the runtime directory and the dependencies.
    pub(super) spec: ServiceSpec,
    pub(super) depends_on: Vec<String>,
    pub(super) shared: bool,
    /// The programs of `ready` and `health`, with these keys.
    pub(super) probe_programs: Vec<(&'static str, String)>,
    /// Line and column of the name.
    pub(super) position: (usize, usize),
}

/// A probe of a service.
enum Probe {
    /// A probe in its text form.
    Text(String),
    Command(Ready),
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
        if !has_data && texts(&keys).any(|text| uses(text, "data")) {
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
        for name in keys
            .export
            .keys()
            .filter(|name| !is_variable(name.get_ref()))
        {
            let what = format!("`export`: invalid name of a variable {:?}", name.get_ref());
            refuse(Some(name.span()), what);
        }
        let value_of = |name: &str| match name {
            "root" => Some(root.to_owned()),
            "data" => data.clone(),
            _ => None,
        };
        // The library fills in these texts, and it has no values of other services.
        let by_library = |text: &str| fill(text, OWN, value_of);
        let filled = |text: &str| fill(text, AtStart(&depends_on), value_of);
        let mut ready = None;
        if let Some(text) = &keys.ready {
            match self.readiness(text.get_ref(), by_library) {
                Ok(when) => ready = Some(when),
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
        let argv = |words: &CommandWords| -> Vec<OsString> {
            let mut words = words.0.iter();
            let program = words.next().map(|program| self.program(program, filled));
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
            Some(PathBuf::from(self.below_root(path, by_library)))
        };
        let cwd = path("cwd", Some(keys.cwd.as_deref().unwrap_or(Path::new("."))));
        let log = path("log", keys.log.as_deref());
        let spec = ServiceSpec {
            start: keys.start.as_ref().map(argv),
            env,
            cwd: cwd.as_deref().map(clean),
            port: keys.port,
            ready,
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
        if diagnostics.len() > known_before || !invalid.is_empty() {
            return None;
        }
        Some(ConfiguredService {
            spec,
            depends_on,
            shared: keys.shared.unwrap_or(self.shared),
            probe_programs: self.probe_programs(&keys, by_library),
            position: self.source.position(span.start),
        })
    }

    fn data_dir(&self, written: &Path) -> Result<String, String> {
        if written.as_os_str().is_empty() {
            return Err("the path is empty".to_owned());
        }
        let data = clean(&self.root.join(written));
        // After an interrupted `init`, the next start removes all entries of the directory.
        if self.root.starts_with(&data) {
            return Err(format!(
                "{} contains the configuration file",
                data.display()
            ));
        }
        let text = data.into_os_string().into_string();
        text.map_err(|_| "the path is not UTF-8".to_owned())
    }

    /// Makes a program's path absolute. A relative path is relative to the file.
    fn program(&self, program: &str, filled: impl Fn(&str) -> String) -> String {
        match program.contains(is_separator) {
            true => self.below_root(program, filled),
            false => filled(program),
        }
    }

    /// Makes a path absolute. A path that is relative after it is filled in is relative to the file.
    fn below_root(&self, path: &str, filled: impl Fn(&str) -> String) -> String {
        let value = filled(path);
        if value.starts_with("{dir}") || Path::new(&value).is_absolute() {
            return value;
        }
        // Join the templates, not their values, because two joined values could look like a placeholder.
        let joined: PathBuf = Path::new("{root}").join(path).components().collect();
        match self.root.parent() {
            Some(_) => filled(&joined.to_string_lossy()),
            None => self.root.join(value).to_string_lossy().into_owned(),
        }
    }

    fn readiness(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<When, String> {
        match self.probe(text, filled)? {
            Probe::Command(command) => Ok(When::Asked(command)),
            Probe::Text(text) => value_parsers::ready(&text),
        }
    }

    fn health(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<Health, String> {
        match self.probe(text, filled)? {
            Probe::Command(command) => Ok(Health::Asked(command)),
            Probe::Text(text) => value_parsers::health(&text),
        }
    }

    /// Fills in a probe, and makes its paths absolute.
    fn probe(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<Probe, String> {
        Ok(Probe::Text(match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => {
                format!("unix:{}", self.below_root(path, filled))
            }
            Some(("cmd", command)) => {
                // Each word is filled in separately, because a path may have spaces.
                let words = value_parsers::words(command)?;
                let mut words = words.iter();
                let program = words.next().map(|program| self.program(program, &filled));
                let program = program.unwrap_or_default();
                let args = words.map(|word| filled(word));
                return Ok(Probe::Command(Ready::command(program, args)));
            }
            Some(("http", path)) => format!("http:{}", filled(path)),
            _ => text.to_owned(),
        }))
    }

    /// Returns the programs of `ready` and `health`, with these keys.
    fn probe_programs(
        &self,
        keys: &ServiceKeys,
        filled: impl Fn(&str) -> String,
    ) -> Vec<(&'static str, String)> {
        let probes = [("ready", &keys.ready), ("health", &keys.health)];
        let programs = probes.into_iter().filter_map(|(key, probe)| {
            let command = probe.as_ref()?.get_ref().strip_prefix("cmd:")?;
            let words = value_parsers::words(command).ok()?;
            Some((key, self.program(words.first()?, &filled)))
        });
        programs.collect()
    }

    /// Returns the variables of a file. Their values have no placeholders.
    fn env_file(&self, file: &str, at_start: AtStart<'_>) -> Result<Vec<(String, String)>, String> {
        let path = clean(&self.root.join(file));
        let trust = match self.trust {
            Trust::Named => Trust::Named,
            _ => Trust::EnvFile,
        };
        let dir = path.parent().unwrap_or(self.root);
        let text = find::read(&path, dir, trust).map_err(|error| error.to_string())?;
        let mut pairs = Vec::new();
        for variable in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) = variable.map_err(|error| invalid_line(&path, &text, &error))?;
            pairs.push((name, at_start.literal(&value)));
        }
        Ok(pairs)
    }

    /// Prepends the existing directories of `path` to the service's PATH.
    fn extend_path(
        &self,
        keys: &ServiceKeys,
        at_start: AtStart<'_>,
        env: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        if keys.path.is_empty() {
            return Ok(());
        }
        let mut dirs = Vec::new();
        // The path of the file's directory is not a pattern.
        let root = glob::Pattern::escape(&self.root.to_string_lossy());
        for pattern in &keys.path {
            let pattern = Path::new(&root).join(pattern.get_ref());
            let pattern = pattern.to_string_lossy();
            let found = glob::glob(&pattern).map_err(|error| format!("`path`: {error}"))?;
            let mut found: Vec<PathBuf> = found.flatten().filter(|dir| dir.is_dir()).collect();
            // The highest version comes first. The order is numeric: 9 is less than 16.
            alphanumeric_sort::sort_path_slice_rev(&mut found);
            dirs.extend(found);
        }
        let set = env.iter().rfind(|(name, _)| is_path(name));
        let rest = match set {
            Some((_, path)) => path.clone(),
            None => {
                let inherited = env::var_os("PATH").unwrap_or_default();
                at_start.literal(&inherited.to_string_lossy())
            }
        };
        let joined = env::join_paths(&dirs).map_err(|error| format!("`path`: {error}"))?;
        let joined = at_start.literal(&joined.to_string_lossy());
        let parts = [joined, rest];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        env.push(("PATH".to_owned(), parts.join(PATH_SEPARATOR)));
        Ok(())
    }

    /// Reports placeholders such as `{redis.port}` of services that are not in `depends-on`.
    fn check_uses(
        &self,
        keys: &ServiceKeys,
        depends_on: &[String],
        mut refuse: impl FnMut(String),
    ) {
        for name in self.names {
            if depends_on.iter().any(|it| it == name) {
                continue;
            }
            for what in ["port", "dir"] {
                let place = format!("{name}.{what}");
                if texts(keys).any(|text| uses(text, &place)) {
                    refuse(format!(
                        "`{{{place}}}` is used, but `{name}` is not in `depends-on`"
                    ));
                }
            }
        }
    }
}

/// Returns all texts in which placeholders are filled in.
fn texts(keys: &ServiceKeys) -> impl Iterator<Item = &str> {
    let commands = keys.start.iter().chain(&keys.init);
    let words = commands.flat_map(|words| &words.0);
    let values = keys.env.values().chain(keys.export.values());
    let values = values.map(|value| &value.get_ref().0);
    let paths = keys.cwd.iter().chain(&keys.log);
    let probes = keys.ready.iter().chain(&keys.health);
    let probes = probes.map(Spanned::get_ref);
    words
        .chain(values)
        .chain(probes)
        .map(String::as_str)
        .chain(paths.filter_map(|path| path.to_str()))
}

/// Returns the error about a line of a file of variables. The line itself may be a secret.
fn invalid_line(path: &Path, text: &str, error: &dotenvy::Error) -> String {
    let path = path.display();
    let number = match error {
        // The error has the line, or the part of it that is invalid.
        dotenvy::Error::LineParse(part, _) => text.lines().position(|it| it.contains(part.trim())),
        _ => None,
    };
    let place = number.map_or(String::new(), |number| format!(":{}", number + 1));
    format!(
        "{path}{place}: invalid line; write NAME=value, and quote a value with special characters: NAME='a b$c'"
    )
}

pub(super) fn is_path(variable: &str) -> bool {
    match cfg!(windows) {
        true => variable.eq_ignore_ascii_case("PATH"),
        false => variable == "PATH",
    }
}

/// Returns `true` if an environment variable can have this name.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Returns the path without `.` and `..`. Links are not followed.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}
