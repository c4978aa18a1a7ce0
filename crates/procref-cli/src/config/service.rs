//! From what is written about a service to what is to be done: paths made absolute, and everything filled
//! in that does not change from start to start.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf, is_separator};

use procref::Ready;

use super::keys::{Keys, Words};
use super::parse::WrittenService;
use super::problem::{Problem, Source, listed, suggestion};
use super::template::{fill, literal};
use crate::setup::Setup;
use crate::spec::ServiceSpec;
use crate::values::{self, When};

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
    pub(super) fn service(&self, written: WrittenService) -> Result<Service, Problem> {
        let WrittenService { name, span, keys } = written;
        let (service, shown) = (&name, |what: &str| format!("service `{name}`: {what}"));
        let wrong = |what: String| self.source.problem(Some(span.clone()), shown(&what));
        let (Some(root), Some(start)) = (self.root.to_str(), &keys.start) else {
            return Err(match &keys.start {
                None => wrong("there is no `start`, the command that is the service".to_owned()),
                Some(_) => wrong("the path of the file's directory is no UTF-8".to_owned()),
            });
        };
        let data = match &keys.data {
            None => None,
            Some(written) => Some(self.data_dir(written.get_ref()).map_err(|reason| {
                self.source
                    .problem(Some(written.span()), shown(&format!("`data`: {reason}")))
            })?),
        };
        if let (Some(_), None) = (&keys.init, &data) {
            let what = "`init` needs `data`, the directory that it fills; it runs once for each";
            return Err(wrong(what.to_owned()));
        }
        let filled = |text: &str| {
            fill(text, |name| match name {
                "root" => Some(literal(root)),
                "data" => Some(literal(data.as_ref()?)),
                _ => None,
            })
        };
        if data.is_none() && texts(&keys).any(|text| text.contains("{data}")) {
            return Err(wrong("`{data}` is used, and there is no `data`".to_owned()));
        }
        for dependency in &keys.depends_on {
            let name = dependency.get_ref();
            if !self.names.contains(&name.as_str()) {
                let suggested = suggestion(name, self.names.iter().copied());
                let what = format!("it depends on `{name}`, which no file describes{suggested}");
                return Err(self.source.problem(Some(dependency.span()), shown(&what)));
            }
        }
        let depends_on: Vec<String> = keys
            .depends_on
            .iter()
            .map(|it| it.get_ref().clone())
            .collect();
        self.check_uses(&keys, &depends_on).map_err(wrong)?;
        let ready = match &keys.ready {
            None => None,
            Some(text) => {
                let parsed = self.readiness(text.get_ref(), filled);
                Some(parsed.map_err(|reason| {
                    self.source
                        .problem(Some(text.span()), shown(&format!("`ready`: {reason}")))
                })?)
            }
        };
        if let Some(name) = keys.export.keys().find(|name| !is_variable(name.get_ref())) {
            let what = format!("`export`: {:?} is no name of a variable", name.get_ref());
            return Err(self.source.problem(Some(name.span()), shown(&what)));
        }
        let argv = |words: &Words| -> Vec<OsString> {
            let mut words = words.0.iter().map(|word| filled(word));
            let program = words.next().map(|program| self.program(&program));
            program
                .into_iter()
                .chain(words)
                .map(OsString::from)
                .collect()
        };
        let mut env = pairs(&keys.env, filled);
        self.extend_path(&keys, &mut env).map_err(wrong)?;
        let cwd = keys.cwd.as_deref().unwrap_or(Path::new("."));
        let path = |path: &Path| {
            let path = path.to_str().map(&filled).unwrap_or_default();
            if path.is_empty() {
                Err("a path is empty")
            } else {
                Ok(self.root.join(path))
            }
        };
        let spec = ServiceSpec {
            start: Some(argv(start)),
            env,
            cwd: Some(clean(
                &path(cwd).map_err(|reason| wrong(format!("`cwd`: {reason}")))?,
            )),
            port: keys.port,
            ready,
            stop_signal: keys.stop_signal,
            grace: keys.grace,
            linger: keys.linger,
            log: match &keys.log {
                Some(log) => Some(path(log).map_err(|reason| wrong(format!("`log`: {reason}")))?),
                None => None,
            },
            fingerprint: keys.fingerprint.clone(),
            mismatch: keys.mismatch,
            start_timeout: keys.start_timeout,
            wait_timeout: keys.wait_timeout,
            export: pairs(&keys.export, filled),
            setup: Setup {
                init: keys.init.as_ref().map(argv),
                data: data.clone(),
                dependencies: Vec::new(),
            },
            ..ServiceSpec::named(service)
        };
        Ok(Service {
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
    fn program(&self, program: &str) -> String {
        match program.contains(is_separator) && !program.starts_with("{dir}") {
            true => self.root.join(program).to_string_lossy().into_owned(),
            false => program.to_owned(),
        }
    }

    fn readiness(&self, text: &str, filled: impl Fn(&str) -> String) -> Result<When, String> {
        let absolute = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => {
                let path = filled(path);
                match path.starts_with("{dir}") {
                    true => format!("unix:{path}"),
                    false => format!("unix:{}", self.root.join(path).display()),
                }
            }
            Some(("cmd", command)) => {
                // Filled in word by word: a path may have spaces.
                let words = values::words(command)?;
                let mut words = words.iter().map(|word| filled(word));
                let program = words.next().map(|program| self.program(&program));
                let program = program.unwrap_or_default();
                return Ok(When::Asked(Ready::command(program, words)));
            }
            Some(("http", path)) => format!("http:{}", filled(path)),
            _ => text.to_owned(),
        };
        values::ready(&absolute)
    }

    /// Puts the directories of `path` that there are in front of its PATH.
    fn extend_path(&self, keys: &Keys, env: &mut Vec<(String, String)>) -> Result<(), String> {
        let Some(patterns) = &keys.path else {
            return Ok(());
        };
        let mut dirs = Vec::new();
        for pattern in patterns {
            let pattern = self.root.join(pattern);
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
            None => literal(&env::var("PATH").unwrap_or_default()),
        };
        let joined = env::join_paths(&dirs).map_err(|error| format!("`path`: {error}"))?;
        let joined = literal(&joined.to_string_lossy());
        let parts = [joined, rest];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        env.push(("PATH".to_owned(), parts.join(PATHS)));
        Ok(())
    }

    /// `{redis.port}` is filled in only by those who depend on `redis`.
    fn check_uses(&self, keys: &Keys, depends_on: &[String]) -> Result<(), String> {
        for name in self.names {
            if depends_on.iter().any(|it| it == name) {
                continue;
            }
            for what in ["port", "dir"] {
                let place = format!("{{{name}.{what}}}");
                if texts(keys)
                    .any(|text| text.contains(&place) && !text.contains(&format!("{{{place}}}")))
                {
                    let needed = listed(&[name]);
                    return Err(format!(
                        "`{place}` is used, and {needed} is not among its `depends-on`"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// All in which something is filled in.
fn texts(keys: &Keys) -> impl Iterator<Item = &str> {
    let commands = keys.start.iter().chain(&keys.init);
    let words = commands.flat_map(|words| &words.0);
    let values = keys.env.values().chain(keys.export.values());
    let paths = keys.cwd.iter().chain(&keys.log);
    let ready = keys.ready.iter().map(toml::Spanned::get_ref);
    words
        .chain(values)
        .chain(ready)
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
