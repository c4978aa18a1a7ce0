//! Configuration files: the project's file and the user's file.
//!
//! The project's file is the nearest one in the working directory or above it. A name is searched in the project's file
//! first, and then in the user's file. Services of the project's file run in the project's own runtime directory,
//! unless they are shared. Services of the user's file are shared.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use procref::Services;
use toml::Spanned;

use crate::error::library::Message;
use crate::error::{Error, Result};
use crate::spec::ServiceSpec;
use crate::text::shown;

mod check;
mod clusters;
mod dependency_order;
pub mod diagnostic;
pub mod find;
mod foreign_keys;
mod host;
mod json_schema;
pub mod keys;
pub mod namespace;
mod parse;
mod resolve;
mod schema;
mod service;
pub mod template;

pub use check::{CheckedFiles, CheckedProgram, CheckedService};
pub use json_schema::json_schema;
pub use resolve::{FoundService, FoundServices};

use clusters::Clusters;
use diagnostic::{ConfigError, Diagnostic, SourceText, listed, suggestion};
use find::{Trust, VARIABLE};
use namespace::Namespace;
use service::{ConfiguredService, ServiceContext};

/// The files to read, and the runtime directory of their services.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The common runtime directory, or `None` for the default one.
    pub runtime_dir: Option<PathBuf>,
    /// The project's file. `None` for the file that [`VARIABLE`] names, or the nearest one.
    pub file: Option<PathBuf>,
    /// The option that named the file, for messages.
    pub option: Option<&'static str>,
    /// `true` if no file is read.
    pub no_file: bool,
    /// The directory in which the search for the project's file begins. `None` for the working directory.
    pub from: Option<PathBuf>,
}

/// A parsed file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// The file's directory, without links.
    root: PathBuf,
    services: BTreeMap<String, ConfiguredService>,
    clusters: Clusters,
    /// The services of a command that names none.
    default: Option<Vec<String>>,
}

/// The files that apply to a directory.
#[derive(Debug, Default)]
pub struct Files {
    project: Option<File>,
    user: Option<File>,
}

/// The text of a file that is about to be changed.
pub struct WrittenFile {
    /// The text.
    pub text: String,
    /// The names of its services, including those with errors.
    pub names: Vec<String>,
}

impl WrittenFile {
    /// Reads a file. Fails if the file is not TOML.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let (path, root) = locate(file)?;
        let text = find::read(&path, &root, Trust::Named)?;
        let names = parse::parse(&path, &text)?.names;
        Ok(Self { text, names })
    }
}

/// Fails if a text is not TOML.
pub fn check_syntax(file: &Path, text: &str) -> Result<(), ConfigError> {
    parse::parse(file, text).map(|_| ())
}

impl Selection {
    /// Returns why the named file would be rejected if the search had found it.
    pub fn named_untrusted_reason(&self) -> Option<String> {
        let named = self.named_file().filter(|_| !self.no_file)?;
        let (path, root) = locate(&named).ok()?;
        find::untrusted_reason(&path, &root)
    }

    /// Returns the common namespace and that of the current project. With `all`, returns those of all projects.
    pub fn namespaces(&self, all: bool) -> Result<Vec<Namespace>> {
        let named = self.runtime_dir.as_deref();
        let common = Namespace {
            dir: named.map(Path::to_owned),
            project: None,
        };
        let mut namespaces = vec![common];
        let file = self.project_file()?;
        if all {
            namespaces.extend(namespace::all(named)?);
        } else if let Some(file) = file {
            let (_, root) = locate(&file)?;
            namespaces.push(namespace::of_project(named, &root)?);
        }
        Ok(namespaces)
    }

    /// Returns the services of projects that do not exist any more.
    pub fn vanished(&self) -> Result<Vec<Services>> {
        namespace::vanished(self.runtime_dir.as_deref())
    }

    /// Returns the project's file, which was named or found. A named file must exist.
    fn project_file(&self) -> Result<Option<PathBuf>> {
        if self.no_file {
            return Ok(None);
        }
        let Some(named) = self.named_file() else {
            return Ok(find::upwards(&self.dir()?));
        };
        let by = match self.file {
            Some(_) => self.option,
            None => Some(VARIABLE),
        };
        match (std::fs::metadata(&named), by) {
            (Err(error), Some(by)) if error.kind() == io::ErrorKind::NotFound => {
                let path = std::path::absolute(&named).unwrap_or(named);
                let message = format!("no such file (named by {by})");
                Err(ConfigError::from(Diagnostic::of_file(&path, message)).into())
            }
            _ => Ok(Some(named)),
        }
    }

    /// Returns the absolute path of the directory in which the search for the project's file begins.
    pub fn dir(&self) -> Result<PathBuf> {
        let dir = match &self.from {
            Some(dir) => std::path::absolute(dir),
            None => env::current_dir(),
        };
        dir.map_err(|error| Error::io("find the working directory", error))
    }

    /// Returns the project's file that the search finds above the directory. Returns `None` if a file is named, because
    /// there is no search then.
    pub fn outer_file(&self) -> Result<Option<PathBuf>> {
        if self.named_file().is_some() {
            return Ok(None);
        }
        Ok(self.dir()?.parent().and_then(find::upwards))
    }

    fn named_file(&self) -> Option<PathBuf> {
        let variable = || env::var_os(VARIABLE).filter(|file| !file.is_empty());
        self.file.clone().or_else(|| variable().map(PathBuf::from))
    }
}

/// Returns a path as text for people.
pub fn path_text(path: &Path) -> String {
    shown(&path.to_string_lossy())
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
    /// Reads the files.
    pub fn read(selection: &Selection) -> Result<Self> {
        if selection.no_file {
            return Ok(Self::default());
        }
        let user = match find::user_file() {
            Some(file) => File::read(&file, Trust::User, true, &[]).map(Some),
            None => Ok(None),
        };
        let known = user.iter().flatten();
        let others: Vec<&str> = known.flat_map(File::names).collect();
        let trust = match selection.named_file() {
            Some(_) => Trust::Named,
            None => Trust::Found,
        };
        let project = match selection.project_file()? {
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
        let files = Self { project, user };
        let diagnostics = files.check_ports();
        match diagnostics.is_empty() {
            true => Ok(files),
            false => Err(ConfigError { diagnostics }.into()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &File> {
        self.project.iter().chain(&self.user)
    }

    /// Returns the paths of the files. The project's file comes first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.all().map(|file| file.path.as_path())
    }

    /// Returns the names of the services, those of the project first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all().flat_map(File::names)
    }

    /// Returns the names of the services, with the files that describe them.
    pub fn described(&self) -> BTreeMap<String, PathBuf> {
        let services = self.all().flat_map(|file| {
            let path = &file.path;
            file.names()
                .map(move |name| (name.to_owned(), path.clone()))
        });
        services.collect()
    }

    /// Returns the services of a command that names none: those of the project's file, or of the user's file.
    pub fn default_names(&self) -> Option<&[String]> {
        self.all().find_map(|file| file.default.as_deref())
    }

    /// Checks that the project's services use no port of a user's service that has none.
    fn check_ports(&self) -> Vec<Diagnostic> {
        let (Some(project), Some(user)) = (&self.project, &self.user) else {
            return Vec::new();
        };
        project.check_ports(|name| match project.services.contains_key(name) {
            true => None,
            false => user.services.get(name),
        })
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
        let source = SourceText { file: &path, text };
        let mut diagnostics = parsed.diagnostics;
        let clusters = clusters::read(&parsed.clusters, source, &root, &mut diagnostics);
        let context = ServiceContext {
            source,
            root: &root,
            trust,
            shared: parsed.shared.unwrap_or(shared),
            names: &names,
            clusters: &clusters,
        };
        let mut services = BTreeMap::new();
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
            clusters,
            default,
        };
        diagnostics.extend(file.check_shared());
        diagnostics.extend(file.check_ports(|name| file.services.get(name)));
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

    /// Checks that no service uses the port of a dependency that has none. The port would be 0.
    fn check_ports<'a>(
        &self,
        dependency: impl Fn(&str) -> Option<&'a ConfiguredService>,
    ) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for (name, service) in &self.services {
            for (key, used) in &service.used_ports {
                if dependency(used).is_some_and(|it| !it.spec.may_have_port()) {
                    diagnostics.push(self.diagnostic_at(service.position, format!(
                        "service `{name}`: `{key}`: `{{{used}.port}}` is used, but `{used}` has no port (set its `port`, \
                         or write `{{port}}` in its `start`)"
                    )));
                }
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
        // A check does not start the helper.
        let checked = spec.builder(Path::new("procref")).check();
        checked.map_err(|error| self.diagnostic_at(service.position, Message(&error).to_string()))
    }
}

#[cfg(feature = "fuzzing")]
pub mod fuzz;
#[cfg(test)]
mod tests;
