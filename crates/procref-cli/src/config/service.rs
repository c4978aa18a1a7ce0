//! From what is written about a service to what is to be done: paths made absolute, and everything filled
//! in that does not change from start to start.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Component, Path, PathBuf, is_separator};

use procref::Ready;

use super::diagnostic::{Problem, Source, listed, suggestion};
use super::parse::WrittenService;
use super::schema::{Keys, Words};
use super::template::{AtStart, OWN, fill, uses};
use crate::prestart::Setup;
use crate::spec::ServiceSpec;
use crate::value_parsers::{self, Health, When};

/// What stands between the directories of a `PATH`.
const PATHS: &str = if cfg!(windows) { ";" } else { ":" };

/// A service of a file.
#[derive(Debug)]
pub(super) struct Service {
    /// Without its runtime directory, and what it needs of others.
    pub(super) spec: ServiceSpec,
    pub(super) depends_on: Vec<String>,
    pub(super) shared: bool,
    /// Line and column of its name.
    pub(super) place: (usize, usize),
}

/// What asks a service.
enum Asked {
    /// As it is written.
    Text(String),
    Command(Ready),
}

/// What there is around a service.
pub(super) struct Around<'a> {
    pub(super) source: Source<'a>,
    /// The file's directory.
    pub(super) root: &'a Path,
    /// What holds for services that do not say it themselves.
    pub(super) shared: bool,
    /// All that can be depended on.
    pub(super) names: &'a [&'a str],
}

impl Around<'_> {
    /// The service, unless something is wrong with it: then everything that is goes to `problems`.
    pub(super) fn service(
        &self,
        written: WrittenService,
        problems: &mut Vec<Problem>,
    ) -> Option<Service> {
        let WrittenService {
            name,
            span,
            keys,
            wrong,
        } = written;
        let known_before = problems.len();
        let mut refuse = |at: Option<Range<usize>>, what: String| {
            let at = at.unwrap_or_else(|| span.clone());
            let message = format!("service `{name}`: {what}");
            problems.push(self.source.problem(Some(at), message));
        };
        // What is there and wrong was told, and is not missing.
        let is_wrong = |key: &str| wrong.iter().any(|wrong| wrong == key);
        let root = self.root.to_str().unwrap_or_else(|| {
            refuse(
                None,
                "the path of the file's directory is no UTF-8".to_owned(),
            );
            ""
        });
        if keys.start.is_none() && !is_wrong("start") {
            let what = "there is no `start`, the command that is the service";
            refuse(None, what.to_owned());
        }
        let mut data = None;
        if let Some(written) = &keys.data {
            match self.data_dir(written.get_ref()) {
                Ok(dir) => data = Some(dir),
                Err(reason) => refuse(Some(written.span()), format!("`data`: {reason}")),
            }
        }
        let has_data = keys.data.is_some() || is_wrong("data");
        if keys.init.is_some() && !has_data {
            let what = "`init` needs `data`, the directory that it fills; it runs once for each";
            refuse(None, what.to_owned());
        }
        if !has_data && texts(&keys).any(|text| uses(text, "data")) {
            refuse(None, "`{data}` is used, and there is no `data`".to_owned());
        }
        for dependency in &keys.depends_on {
            let name = dependency.get_ref();
            if !self.names.contains(&name.as_str()) {
                let suggested = suggestion(name, self.names.iter().copied());
                let what = format!("it depends on `{name}`, which no file describes{suggested}");
                refuse(Some(dependency.span()), what);
            }
        }
        let depends_on: Vec<String> = keys
            .depends_on
            .iter()
            .map(|it| it.get_ref().clone())
            .collect();
        if !is_wrong("depends-on") {
            self.check_uses(&keys, &depends_on, |what| refuse(None, what));
        }
        for name in keys
            .export
            .keys()
            .filter(|name| !is_variable(name.get_ref()))
        {
            let what = format!("`export`: {:?} is no name of a variable", name.get_ref());
            refuse(Some(name.span()), what);
        }
        let value_of = |name: &str| match name {
            "root" => Some(root.to_owned()),
            "data" => data.clone(),
            _ => None,
        };
        // The library knows nothing of other services: not in these.
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
                Ok(asked) => health = Some(asked),
                Err(reason) => refuse(Some(text.span()), format!("`health`: {reason}")),
            }
        } else if keys.health_timeout.is_some() && !is_wrong("health") {
            let what = "`health-timeout` needs `health`, which says what is asked";
            refuse(None, what.to_owned());
        }
        let argv = |words: &Words| -> Vec<OsString> {
            let mut words = words.0.iter();
            let program = words.next().map(|program| self.program(program, filled));
            program
                .into_iter()
                .chain(words.map(|word| filled(word)))
                .map(OsString::from)
                .collect()
        };
        let mut env = pairs(&keys.env, filled);
        if let Err(reason) = self.extend_path(&keys, AtStart(&depends_on), &mut env) {
            refuse(None, reason);
        }
        let mut path = |key: &str, path: Option<&Path>| {
            let path = path?.to_str().unwrap_or_default();
            if path.is_empty() {
                refuse(None, format!("`{key}`: a path is empty"));
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
            export: pairs(&keys.export, filled),
            setup: Setup {
                init: keys.init.as_ref().map(argv),
                data: data.clone(),
                depends_on: depends_on.clone(),
                dependencies: Vec::new(),
            },
            ..ServiceSpec::named(&name)
        };
        if problems.len() > known_before || !wrong.is_empty() {
            return None;
        }
        Some(Service {
            spec,
            depends_on,
            shared: keys.shared.unwrap_or(self.shared),
            place: self.source.place(span.start),
        })
    }

    fn data_dir(&self, written: &Path) -> Result<String, String> {
        if written.as_os_str().is_empty() {
            return Err("the path is empty".to_owned());
        }
        let data = clean(&self.root.join(written));
        // What is half made is removed before it is made again.
        if self.root.starts_with(&data) {
            return Err(format!("{} holds the file itself", data.display()));
        }
        let text = data.into_os_string().into_string();
        text.map_err(|_| "the path is no UTF-8".to_owned())
    }

    /// A program that is named by a relative path is relative to the file.
    fn program(&self, program: &str, filled: impl Fn(&str) -> String) -> String {
        match program.contains(is_separator) {
            true => self.below_root(program, filled),
            false => filled(program),
        }
    }

    /// A path that is relative to the file, unless it is absolute when it is filled in.
    fn below_root(&self, path: &str, filled: impl Fn(&str) -> String) -> String {
        let itself = filled(path);
        if itself.starts_with("{dir}") || Path::new(&itself).is_absolute() {
            return itself;
        }
        // Not the filled paths: what joins two of them could look like a placeholder.
        let joined: PathBuf = Path::new("{root}").join(path).components().collect();
        match self.root.parent() {
            Some(_) => filled(&joined.to_string_lossy()),
            None => self.root.join(itself).to_string_lossy().into_owned(),
        }
    }

    fn readiness(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<When, String> {
        match self.probe(text, filled)? {
            Asked::Command(command) => Ok(When::Asked(command)),
            Asked::Text(text) => value_parsers::ready(&text),
        }
    }

    fn health(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<Health, String> {
        match self.probe(text, filled)? {
            Asked::Command(command) => Ok(Health::Asked(command)),
            Asked::Text(text) => value_parsers::health(&text),
        }
    }

    /// What asks a service, with everything filled in and paths made absolute.
    fn probe(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<Asked, String> {
        Ok(Asked::Text(match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => {
                format!("unix:{}", self.below_root(path, filled))
            }
            Some(("cmd", command)) => {
                // Filled in word by word: a path may have spaces.
                let words = value_parsers::words(command)?;
                let mut words = words.iter();
                let program = words.next().map(|program| self.program(program, &filled));
                let program = program.unwrap_or_default();
                let args = words.map(|word| filled(word));
                return Ok(Asked::Command(Ready::command(program, args)));
            }
            Some(("http", path)) => format!("http:{}", filled(path)),
            _ => text.to_owned(),
        }))
    }

    /// Puts the directories of `path` that there are in front of its PATH.
    fn extend_path(
        &self,
        keys: &Keys,
        at_start: AtStart<'_>,
        env: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        let Some(patterns) = &keys.path else {
            return Ok(());
        };
        let mut dirs = Vec::new();
        // Only what the file says is a pattern, and not the path of its directory.
        let root = glob::Pattern::escape(&self.root.to_string_lossy());
        for pattern in patterns {
            let pattern = Path::new(&root).join(pattern);
            let pattern = pattern.to_string_lossy();
            let found = glob::glob(&pattern).map_err(|error| format!("`path`: {error}"))?;
            let mut found: Vec<PathBuf> = found.flatten().filter(|dir| dir.is_dir()).collect();
            // Of several versions the highest first; 9 is less than 16.
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
        env.push(("PATH".to_owned(), parts.join(PATHS)));
        Ok(())
    }

    /// `{redis.port}` is filled in only by those who depend on `redis`.
    fn check_uses(&self, keys: &Keys, depends_on: &[String], mut refuse: impl FnMut(String)) {
        for name in self.names {
            if depends_on.iter().any(|it| it == name) {
                continue;
            }
            for what in ["port", "dir"] {
                let place = format!("{name}.{what}");
                if texts(keys).any(|text| uses(text, &place)) {
                    let needed = listed(&[name]);
                    refuse(format!(
                        "`{{{place}}}` is used, and {needed} is not among its `depends-on`"
                    ));
                }
            }
        }
    }
}

/// All in which something is filled in.
fn texts(keys: &Keys) -> impl Iterator<Item = &str> {
    let commands = keys.start.iter().chain(&keys.init);
    let words = commands.flat_map(|words| &words.0);
    let values = keys.env.values().chain(keys.export.values());
    let paths = keys.cwd.iter().chain(&keys.log);
    let probes = keys.ready.iter().chain(&keys.health);
    let probes = probes.map(toml::Spanned::get_ref);
    words
        .chain(values)
        .chain(probes)
        .map(String::as_str)
        .chain(paths.filter_map(|path| path.to_str()))
}

fn pairs(
    table: &BTreeMap<toml::Spanned<String>, String>,
    filled: impl Fn(&str) -> String,
) -> Vec<(String, String)> {
    let pairs = table.iter();
    pairs
        .map(|(name, value)| (name.get_ref().clone(), filled(value)))
        .collect()
}

fn is_path(variable: &str) -> bool {
    match cfg!(windows) {
        true => variable.eq_ignore_ascii_case("PATH"),
        false => variable == "PATH",
    }
}

/// Whether a variable of the environment can have this name.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// The path without `.` and `..`, as it is written: links are not followed.
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
