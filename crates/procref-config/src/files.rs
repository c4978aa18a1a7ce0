//! Configuration files: the project's file and the user's file.
//!
//! The project's file is the nearest one in the working directory or above it. A name is searched in the project's file
//! first, and then in the user's file. Services of the project's file run in the project's own runtime directory,
//! unless they are shared. Services of the user's file are shared.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use procref::Services;
use toml::Spanned;

use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::recipes::RECIPES;
use crate::spec::ServiceSpec;
use crate::text::shown;

mod check;
mod dependency_order;
pub(crate) mod diagnostic;
pub(crate) mod find;
mod host;
mod json_schema;
pub(crate) mod keys;
mod namespace;
mod parse;
mod resolve;
mod schema;
mod service;
pub(crate) mod template;

pub(crate) use check::{CheckedProgram, CheckedService, check};
pub(crate) use json_schema::json_schema;
pub(crate) use namespace::{Namespace, collect};
pub(crate) use resolve::{FoundService, default_names, find, of_project};

use diagnostic::{ConfigError, Diagnostic, SourceText, listed, most_similar, suggestion};
use find::{FILE_NAME, Trust, VARIABLE};
use service::{ConfiguredService, ServiceContext};

/// A parsed file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// The file's directory, without links.
    root: PathBuf,
    services: BTreeMap<String, ConfiguredService>,
    /// The services of a command that names none.
    default: Option<Vec<String>>,
}

/// The files that apply to the working directory.
#[derive(Debug, Default)]
struct Files {
    project: Option<File>,
    user: Option<File>,
}

/// The text of a file that is about to be changed.
pub(crate) struct WrittenFile {
    pub(crate) text: String,
    /// The names of its services, including those with errors.
    pub(crate) names: Vec<String>,
}

impl WrittenFile {
    /// Reads a file. Fails if the file is not TOML.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
        let (path, root) = locate(file)?;
        let text = find::read(&path, &root, Trust::Named)?;
        let names = parse::parse(&path, &text)?.names;
        Ok(Self { text, names })
    }
}

/// Fails if a text is not TOML.
pub(crate) fn check_syntax(file: &Path, text: &str) -> Result<(), ConfigError> {
    parse::parse(file, text).map(|_| ())
}

/// Returns the names of the services that the files describe, with their file.
pub(crate) fn described(globals: &Globals) -> Result<BTreeMap<String, String>> {
    let files = Files::read(globals)?;
    let services = files.all().flat_map(|file| {
        let path = path_text(&file.path);
        file.names()
            .map(move |name| (name.to_owned(), path.clone()))
    });
    Ok(services.collect())
}

/// Describes a name that no file has and that no running service has.
pub(crate) struct UnknownName {
    /// The files that were read, or why none was read.
    pub(crate) place: String,
    /// A similar name, or a way to describe the service.
    pub(crate) advice: String,
}

/// Returns what the user can do about an unknown name. `running` are the names of running services.
pub(crate) fn unknown_name(
    globals: &Globals,
    name: &str,
    running: &[String],
) -> Result<UnknownName> {
    let files = Files::read(globals)?;
    let names: BTreeSet<&str> = files
        .names()
        .chain(running.iter().map(String::as_str))
        .collect();
    let suggested = suggestion(name, names);
    let paths: Vec<String> = files.all().map(|file| path_text(&file.path)).collect();
    let name = shown(name);
    if !paths.is_empty() {
        let advice = match suggested.is_empty() {
            true => " (describe it there, or use `procref run` with `--start COMMAND`)".to_owned(),
            false => suggested,
        };
        let place = format!("no service `{name}` in {}", paths.join(" or "));
        return Ok(UnknownName { place, advice });
    }
    if globals.no_config {
        return Ok(UnknownName {
            place: format!("service `{name}` is not running, and --no-config reads no file"),
            advice: format!(" (to start it, use `procref run` with `--start COMMAND`){suggested}"),
        });
    }
    let recipes = RECIPES.iter().map(|recipe| recipe.name);
    let recipe = most_similar(&name, recipes).unwrap_or("redis");
    Ok(UnknownName {
        place: format!(
            "service `{name}` is not running, and there is no {FILE_NAME} in {} or above it",
            path_text(&working_dir()?)
        ),
        advice: format!(
            " (`procref init --recipe {recipe}` writes one, and `procref run` with `--start COMMAND` needs \
             none){suggested}"
        ),
    })
}

/// Returns the error of a command that needs a file if there is none.
pub(crate) fn no_file(globals: &Globals) -> Result<String> {
    if globals.no_config {
        return Ok("there is no file to read with --no-config (remove the option)".to_owned());
    }
    Ok(format!(
        "there is no {FILE_NAME} in {} or above it (`procref init` writes one)",
        path_text(&working_dir()?)
    ))
}

/// Reads the files that apply to the working directory, and returns their paths.
pub(crate) fn read_files(globals: &Globals) -> Result<Vec<String>> {
    let files = Files::read(globals)?;
    Ok(files.all().map(|file| path_text(&file.path)).collect())
}

/// Returns why the named file would be rejected if the search had found it.
pub(crate) fn named_untrusted_reason(globals: &Globals) -> Option<String> {
    let named = named_file(globals).filter(|_| !globals.no_config)?;
    let (path, root) = locate(&named).ok()?;
    find::untrusted_reason(&path, &root)
}

/// Returns the common namespace and that of the current project. With `all`, returns those of all projects.
pub(crate) fn namespaces(globals: &Globals, all: bool) -> Result<Vec<Namespace>> {
    let named = globals.runtime_dir.as_deref();
    let common = Namespace {
        dir: named.map(Path::to_owned),
        project: None,
    };
    let mut namespaces = vec![common];
    let file = project_file(globals)?;
    if all {
        namespaces.extend(namespace::all(named)?);
    } else if let Some(file) = file {
        let (_, root) = locate(&file)?;
        namespaces.push(namespace::of_project(named, &root)?);
    }
    Ok(namespaces)
}

/// Returns the services of projects that do not exist any more.
pub(crate) fn vanished(globals: &Globals) -> Result<Vec<Services>> {
    namespace::vanished(globals.runtime_dir.as_deref())
}

/// Returns the project's file, which was named or found. A named file must exist.
fn project_file(globals: &Globals) -> Result<Option<PathBuf>> {
    if globals.no_config {
        return Ok(None);
    }
    let Some(named) = named_file(globals) else {
        return Ok(find::upwards(&working_dir()?));
    };
    match std::fs::metadata(&named) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let by = match globals.config {
                Some(_) => "`--config`",
                None => VARIABLE,
            };
            let path = std::path::absolute(&named).unwrap_or(named);
            let message = format!("no such file (named by {by})");
            Err(ConfigError::from(Diagnostic::of_file(&path, message)).into())
        }
        _ => Ok(Some(named)),
    }
}

fn working_dir() -> Result<PathBuf> {
    env::current_dir().map_err(|error| Error::io("find the working directory", error))
}

fn path_text(path: &Path) -> String {
    shown(&path.to_string_lossy())
}

fn named_file(globals: &Globals) -> Option<PathBuf> {
    let variable = || env::var_os(VARIABLE).filter(|file| !file.is_empty());
    globals
        .config
        .clone()
        .or_else(|| variable().map(PathBuf::from))
}

/// Returns the path of a file and its directory. Both are absolute, and the directory has no links.
fn locate(file: &Path) -> Result<(PathBuf, PathBuf), ConfigError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Diagnostic::of_file(file, "no such file"),
        _ => Diagnostic::io(file, "resolve its directory", &error),
    };
    let path = std::path::absolute(file).map_err(failed)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let root = dir.canonicalize().map_err(failed)?;
    Ok((path, root))
}

impl Files {
    fn read(globals: &Globals) -> Result<Self> {
        if globals.no_config {
            return Ok(Self::default());
        }
        let user = match find::user_file() {
            Some(file) => File::read(&file, Trust::User, true, &[]).map(Some),
            None => Ok(None),
        };
        let known = user.iter().flatten();
        let others: Vec<&str> = known.flat_map(File::names).collect();
        let trust = match named_file(globals) {
            Some(_) => Trust::Named,
            None => Trust::Found,
        };
        let project = match project_file(globals)? {
            Some(file) => File::read(&file, trust, false, &others).map(Some),
            None => Ok(None),
        };
        let (project, user) = match (project, user) {
            (Ok(project), Ok(user)) => (project, user),
            (Err(mut project), Err(user)) => {
                project.diagnostics.extend(user.diagnostics);
                return Err(project.into());
            }
            (Err(error), _) | (_, Err(error)) => return Err(error.into()),
        };
        Ok(Self { project, user })
    }

    fn all(&self) -> impl Iterator<Item = &File> {
        self.project.iter().chain(&self.user)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.all().flat_map(File::names)
    }

    fn service(&self, (origin, name): ServiceId<'_>) -> Option<(&File, &ConfiguredService)> {
        let file = match origin {
            Origin::Project => self.project.as_ref(),
            Origin::User => self.user.as_ref(),
        }?;
        Some((file, file.services.get(name)?))
    }

    fn find<'a>(&self, name: &'a str) -> Option<ServiceId<'a>> {
        let ids = [(Origin::Project, name), (Origin::User, name)];
        ids.into_iter().find(|id| self.service(*id).is_some())
    }

    /// Returns the direct dependencies of a service. The search begins in the service's own file, because the
    /// user's services must not depend on a project.
    fn dependencies<'a>(&'a self, id: &ServiceId<'a>) -> Vec<ServiceId<'a>> {
        let Some((_, service)) = self.service(*id) else {
            return Vec::new();
        };
        let names = service.depends_on.iter().map(String::as_str);
        let found = names.filter_map(|name| {
            let own = (id.0, name);
            self.service(own).map(|_| own).or_else(|| self.find(name))
        });
        found.collect()
    }
}

/// The file that describes a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Project,
    User,
}

/// A service's file and name. Both files may have the same name.
type ServiceId<'a> = (Origin, &'a str);

impl File {
    /// Reads and parses a file. Its services can depend on each other and on `others`.
    fn read(file: &Path, trust: Trust, shared: bool, others: &[&str]) -> Result<Self, ConfigError> {
        let (path, root) = locate(file)?;
        let text = find::read(&path, &root, trust)?;
        Self::parse(path, root, &text, trust, shared, others)
    }

    fn parse(
        path: PathBuf,
        root: PathBuf,
        text: &str,
        trust: Trust,
        shared: bool,
        others: &[&str],
    ) -> Result<Self, ConfigError> {
        let parsed = parse::parse(&path, text)?;
        let names: Vec<&str> = parsed
            .names
            .iter()
            .map(String::as_str)
            .chain(others.iter().copied())
            .collect();
        let context = ServiceContext {
            source: SourceText { file: &path, text },
            root: &root,
            trust,
            shared: parsed.shared.unwrap_or(shared),
            names: &names,
        };
        let mut services = BTreeMap::new();
        let mut diagnostics = parsed.diagnostics;
        for service in parsed.services {
            let name = service.name.clone();
            if let Some(service) = context.service(service, &mut diagnostics) {
                services.insert(name, service);
            }
        }
        for name in parsed.default.iter().flatten() {
            if !names.contains(&name.get_ref().as_str()) {
                let suggested = suggestion(name.get_ref(), names.iter().copied());
                let message = format!(
                    "unknown service `{}` in `default`{suggested}",
                    name.get_ref()
                );
                diagnostics.push(context.source.diagnostic(Some(name.span()), message));
            }
        }
        let default = parsed.default.map(|names| {
            let names = names.into_iter().map(Spanned::into_inner);
            names.collect()
        });
        let file = Self {
            path,
            root,
            services,
            default,
        };
        diagnostics.extend(file.check_shared());
        // A setting that Windows does not support is an error only if the service is used.
        if cfg!(unix) {
            let checked = file.services.values().map(|it| file.check(it, &it.spec));
            diagnostics.extend(checked.filter_map(Result::err));
        }
        match diagnostics.is_empty() {
            true => Ok(file),
            false => {
                diagnostics.sort_by_key(|diagnostic| diagnostic.position);
                Err(ConfigError { diagnostics })
            }
        }
    }

    /// Checks that shared services depend only on shared services, because they outlive the project's services.
    fn check_shared(&self) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for (name, service) in self.services.iter().filter(|(_, it)| it.shared) {
            let own: Vec<&str> = service
                .depends_on
                .iter()
                .filter(|name| self.services.get(*name).is_some_and(|it| !it.shared))
                .map(String::as_str)
                .collect();
            if !own.is_empty() {
                let own = listed(&own);
                diagnostics.push(self.diagnostic_at(service.position, format!(
                    "service `{name}` is shared and depends on {own}, which belongs to this project only (set `shared` \
                     for {own})"
                )));
            }
        }
        diagnostics
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    fn diagnostic_at(&self, position: (usize, usize), message: String) -> Diagnostic {
        Diagnostic {
            file: self.path.clone(),
            position: Some(position),
            message,
        }
    }

    /// Checks a service with the library, and reports its error at the service's position.
    fn check(&self, service: &ConfiguredService, spec: &ServiceSpec) -> Result<(), Diagnostic> {
        let checked = spec.builder().check();
        checked.map_err(|error| {
            let message = Error::from(error).to_string();
            self.diagnostic_at(service.position, message)
        })
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
