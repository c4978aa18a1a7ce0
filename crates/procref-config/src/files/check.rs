//! Checks what parsing a file does not: cycles of dependencies, and programs that are not installed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::service::ConfiguredService;
use super::{Files, Origin, Result, ServiceId};
use crate::program;

/// A service of a file, and its programs.
pub struct CheckedService {
    pub name: String,
    pub file: PathBuf,
    /// Its programs.
    pub programs: Vec<CheckedProgram>,
    /// The user that it runs as if root starts it.
    pub user: Option<String>,
    /// Messages about texts that look like placeholders and are none.
    pub warnings: Vec<String>,
}

/// A program that a service needs.
pub struct CheckedProgram {
    /// The key that names the program.
    pub key: &'static str,
    pub name: String,
    /// The program's file, or `None` if there is none.
    pub path: Option<PathBuf>,
}

/// The files that apply to a directory, and their services.
pub struct CheckedFiles {
    pub files: Vec<PathBuf>,
    pub services: Vec<CheckedService>,
}

impl Files {
    /// Checks what parsing the files does not, and searches for the programs of their services.
    pub fn check(&self) -> Result<CheckedFiles> {
        let mut checked = CheckedFiles {
            files: self.all().map(|file| file.path.clone()).collect(),
            services: Vec::new(),
        };
        for id in self.ids() {
            let Some((file, service)) = self.service(id) else {
                continue;
            };
            self.order(id)?;
            file.check(service, &service.spec)
                .map_err(super::ConfigError::from)?;
            checked.services.push(CheckedService {
                name: id.1.to_owned(),
                file: file.path.clone(),
                programs: programs(service),
                user: service.spec.prestart.user.clone(),
                warnings: service.warnings.clone(),
            });
        }
        Ok(checked)
    }

    /// Returns all services, those of the project first.
    fn ids(&self) -> impl Iterator<Item = ServiceId<'_>> {
        let files = [(Origin::Project, &self.project), (Origin::User, &self.user)];
        files.into_iter().flat_map(|(origin, file)| {
            let names = file.iter().flat_map(|file| file.services.keys());
            names.map(move |name| (origin, name.as_str()))
        })
    }
}

fn programs(service: &ConfiguredService) -> Vec<CheckedProgram> {
    let spec = &service.spec;
    let set = spec
        .env
        .iter()
        .rfind(|(name, _)| super::service::is_path(name));
    let path = set.map(|(_, path)| OsString::from(path));
    let path = path.or_else(|| env::var_os("PATH"));
    let commands = [("start", &spec.start), ("init", &spec.prestart.init)];
    let commands = commands.into_iter().filter_map(|(key, words)| {
        let program = words.as_ref()?.first()?;
        Some((key, program.to_string_lossy().into_owned()))
    });
    let probes = service.probe_programs.iter().cloned();
    commands
        .chain(probes)
        // The value of a placeholder is known only at a start.
        .filter(|(_, name)| !name.contains('{'))
        .map(|(key, name)| CheckedProgram {
            key,
            path: program::find_in(OsStr::new(&name), path.as_deref()),
            name,
        })
        .collect()
}
