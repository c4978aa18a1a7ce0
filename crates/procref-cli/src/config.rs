//! Configuration files: the project's, which is found upwards from the working directory, and the user's.
//!
//! A name is looked up in the project's file first, and then in the user's. Services of a project's file are
//! in a runtime directory of the project's own, unless they are shared; those of the user's file are shared.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use crate::args::Globals;
use crate::error::{Error, Result};
use crate::prestart::Dependency;
use crate::resolve::Plan;
use crate::spec::ServiceSpec;

mod dependency_order;
mod diagnostic;
mod find;
mod namespace;
mod parse;
mod schema;
mod service;
pub(crate) mod template;

pub(crate) use diagnostic::{ConfigError, Problem, suggestion};
pub(crate) use find::{FILE_NAME, VARIABLE};
pub(crate) use namespace::{Namespace, forget};

use dependency_order::Walk;
use diagnostic::{Source, listed};
use find::Trust;
use service::{Around, Service};

/// A file that was read.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Its directory, resolved.
    root: PathBuf,
    services: BTreeMap<String, Service>,
}

/// The files that count here.
#[derive(Debug, Default)]
struct Files {
    project: Option<File>,
    user: Option<File>,
}

/// What the configuration says of the service of this name; `None` if there is no configuration or no
/// such service in it.
pub(crate) fn find(globals: &Globals, name: &str) -> Result<Option<Plan>> {
    Files::read(globals)?.plan(globals.runtime_dir.as_deref(), name)
}

/// What to say of a name that no configuration has: which file was read, and which name may be meant, of
/// those in the files and of the services that run.
pub(crate) fn hint(globals: &Globals, name: &str, running: &[String]) -> Result<Option<String>> {
    let files = Files::read(globals)?;
    let names: BTreeSet<&str> = files
        .names()
        .chain(running.iter().map(String::as_str))
        .collect();
    let suggested = suggestion(name, names);
    let read: Vec<String> = files
        .all()
        .map(|file| file.path.display().to_string())
        .collect();
    if read.is_empty() && globals.no_config {
        return Ok(Some(format!(
            "with --no-config no file is read (`procref run` starts it with `--start COMMAND`){suggested}"
        )));
    }
    if read.is_empty() {
        let here =
            env::current_dir().map_err(|error| Error::io("find the working directory", error))?;
        let user = find::place_of_user();
        let user = user.map_or(String::new(), |file| format!(", and no {}", file.display()));
        return Ok(Some(format!(
            "there is no {FILE_NAME} in {} or a directory above it{user} (`procref init` writes one, and `procref \
             run` starts it without one with `--start COMMAND`){suggested}",
            here.display()
        )));
    }
    Ok(Some(format!(
        "{name:?} is not in {}{suggested}",
        read.join(" or ")
    )))
}

/// The files that count here, which are read for that.
pub(crate) fn read_files(globals: &Globals) -> Result<Vec<String>> {
    let files = Files::read(globals)?;
    Ok(files
        .all()
        .map(|file| file.path.display().to_string())
        .collect())
}

/// Why the file that was named would not be read if it had been found.
pub(crate) fn doubt_of_named(globals: &Globals) -> Option<String> {
    let named = named_file(globals).filter(|_| !globals.no_config)?;
    let (path, root) = located(&named).ok()?;
    find::doubt(&path, &root)
}

/// The namespaces that are looked at from here: the common one, and that of the configuration that is
/// found from here; with `all`, those of all projects.
pub(crate) fn namespaces(globals: &Globals, all: bool) -> Result<Vec<Namespace>> {
    let named = globals.runtime_dir.as_deref();
    let common = Namespace {
        dir: named.map(Path::to_owned),
        project: None,
    };
    let mut namespaces = vec![common];
    if all {
        namespaces.extend(namespace::all(named)?);
    } else if let Some(file) = project_file(globals)? {
        let (_, root) = located(&file)?;
        namespaces.push(Namespace {
            dir: Some(namespace::place(named, &root)?),
            project: Some(root),
        });
    }
    Ok(namespaces)
}

/// The project's file: named, or found.
fn project_file(globals: &Globals) -> Result<Option<PathBuf>> {
    if globals.no_config {
        return Ok(None);
    }
    if let Some(named) = named_file(globals) {
        return Ok(Some(named));
    }
    let here =
        env::current_dir().map_err(|error| Error::io("find the working directory", error))?;
    Ok(find::upwards(&here))
}

fn named_file(globals: &Globals) -> Option<PathBuf> {
    let variable = || env::var_os(VARIABLE).filter(|file| !file.is_empty());
    globals
        .config
        .clone()
        .or_else(|| variable().map(PathBuf::from))
}

/// The file's path, and its directory; both absolute, and the latter without links.
fn located(file: &Path) -> Result<(PathBuf, PathBuf), ConfigError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::of_file(file, "there is no such file"),
        _ => Problem::io(file, "find its directory", &error),
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
        let user = match find::of_user() {
            Some(file) => File::read(&file, Trust::OfUser, true, &[]).map(Some),
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
                project.problems.extend(user.problems);
                return Err(project.into());
            }
            (Err(wrong), _) | (_, Err(wrong)) => return Err(wrong.into()),
        };
        Ok(Self { project, user })
    }

    fn all(&self) -> impl Iterator<Item = &File> {
        self.project.iter().chain(&self.user)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.all().flat_map(File::names)
    }

    fn service(&self, (whose, name): Known<'_>) -> Option<(&File, &Service)> {
        let file = match whose {
            Whose::Project => self.project.as_ref(),
            Whose::User => self.user.as_ref(),
        }?;
        Some((file, file.services.get(name)?))
    }

    fn find<'a>(&self, name: &'a str) -> Option<Known<'a>> {
        let places = [(Whose::Project, name), (Whose::User, name)];
        places
            .into_iter()
            .find(|place| self.service(*place).is_some())
    }

    /// What a service depends on. In its own file first: the user's services know nothing of projects.
    fn dependencies<'a>(&'a self, known: &Known<'a>) -> Vec<Known<'a>> {
        let Some((_, service)) = self.service(*known) else {
            return Vec::new();
        };
        let names = service.depends_on.iter().map(String::as_str);
        let found = names.filter_map(|name| {
            let own = (known.0, name);
            self.service(own).map(|_| own).or_else(|| self.find(name))
        });
        found.collect()
    }

    /// The service with all that it depends on.
    fn plan(&self, runtime_dir: Option<&Path>, name: &str) -> Result<Option<Plan>> {
        let Some(known) = self.find(name) else {
            return Ok(None);
        };
        let mut planned: Vec<(Known<'_>, ServiceSpec)> = Vec::new();
        for known in self.order(known)? {
            let Some((file, service)) = self.service(known) else {
                continue;
            };
            let mut spec = service.spec.clone();
            spec.runtime_dir = match service.shared {
                true => runtime_dir.map(Path::to_owned),
                false => Some(namespace::open(runtime_dir, &file.root)?),
            };
            // All, and not only the direct ones: what these export may tell of others.
            let needed = self.order(known)?;
            let needed = planned.iter().filter(|(known, _)| needed.contains(known));
            for (_, needed) in needed {
                let dir = namespace::common(needed.runtime_dir.as_deref())?;
                spec.setup.dependencies.push(Dependency::of(needed, dir));
            }
            file.check(service, &spec).map_err(ConfigError::from)?;
            planned.push((known, spec));
        }
        let mut specs: Vec<ServiceSpec> = planned.into_iter().map(|(_, spec)| spec).collect();
        let service = specs.pop();
        Ok(service.map(|service| Plan {
            dependencies: specs,
            service,
        }))
    }

    /// A service and all that it depends on, in the order in which they are acquired.
    fn order<'a>(&'a self, known: Known<'a>) -> Result<Vec<Known<'a>>, ConfigError> {
        let way = match dependency_order::walk(known, |known| self.dependencies(known)) {
            Walk::Order(order) => return Ok(order),
            Walk::Cycle(way) => way,
        };
        let names: Vec<&str> = way.iter().map(|(_, name)| *name).collect();
        let message = format!(
            "services depend on each other in a circle: {}; take one `depends-on` out",
            names.join(" -> ")
        );
        let first = way.first().and_then(|first| self.service(*first));
        Err(match first {
            Some((file, service)) => file.problem_at(service.place, message).into(),
            None => ConfigError {
                problems: Vec::new(),
            },
        })
    }
}

/// Which of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Project,
    User,
}

/// A service by the file that describes it and its name: both files may have the same name.
type Known<'a> = (Whose, &'a str);

impl File {
    /// `others`: what its services can depend on besides each other.
    fn read(file: &Path, trust: Trust, shared: bool, others: &[&str]) -> Result<Self, ConfigError> {
        let (path, root) = located(file)?;
        let text = find::read(&path, &root, trust)?;
        Self::parse(path, root, &text, shared, others)
    }

    fn parse(
        path: PathBuf,
        root: PathBuf,
        text: &str,
        shared: bool,
        others: &[&str],
    ) -> Result<Self, ConfigError> {
        let written = parse::parse(&path, text)?;
        let names: Vec<&str> = written
            .names
            .iter()
            .map(String::as_str)
            .chain(others.iter().copied())
            .collect();
        let around = Around {
            source: Source { file: &path, text },
            root: &root,
            shared: written.shared.unwrap_or(shared),
            names: &names,
        };
        let mut services = BTreeMap::new();
        let mut problems = written.problems;
        for service in written.services {
            let name = service.name.clone();
            if let Some(service) = around.service(service, &mut problems) {
                services.insert(name, service);
            }
        }
        let file = Self {
            path,
            root,
            services,
        };
        problems.extend(file.shared_and_not());
        // What Windows lacks is no mistake of the file as a whole: it is refused where it is used.
        if cfg!(unix) {
            let checked = file.services.values().map(|it| file.check(it, &it.spec));
            problems.extend(checked.filter_map(Result::err));
        }
        match problems.is_empty() {
            true => Ok(file),
            false => {
                problems.sort_by_key(|problem| problem.place);
                Err(ConfigError { problems })
            }
        }
    }

    /// A shared service outlives what only one project knows.
    fn shared_and_not(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, service) in self.services.iter().filter(|(_, it)| it.shared) {
            let own: Vec<&str> = service
                .depends_on
                .iter()
                .filter(|name| self.services.get(*name).is_some_and(|it| !it.shared))
                .map(String::as_str)
                .collect();
            if !own.is_empty() {
                let own = listed(&own);
                problems.push(self.problem_at(service.place, format!(
                    "service `{name}` is shared by all projects, and depends on {own}, which this \
                     project has for itself; make them `shared` as well"
                )));
            }
        }
        problems
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    fn problem_at(&self, place: (usize, usize), message: String) -> Problem {
        Problem {
            file: self.path.clone(),
            place: Some(place),
            message,
        }
    }

    /// What the library finds wrong with a service is wrong in the file.
    fn check(&self, service: &Service, spec: &ServiceSpec) -> Result<(), Problem> {
        let checked = spec.builder().check();
        checked.map_err(|error| {
            let message = Error::from(error).to_string();
            self.problem_at(service.place, message)
        })
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
