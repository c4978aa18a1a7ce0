//! Resolves names to services with all their dependencies.

use std::path::Path;

use super::dependency_order::{self, Order};
use super::diagnostic::ConfigError;
use super::find::FILE_NAME;
use super::service::ConfiguredService;
use super::{File, Files, ServiceId, namespace, path_text};
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::spec::ServiceSpec;

/// The services that some names stand for.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The services and their direct and indirect dependencies. Each one comes after its dependencies.
    pub(crate) specs: Vec<FoundService>,
    /// The position of each name in `specs`, or `None` if no file describes the service.
    pub(crate) named: Vec<Option<usize>>,
}

/// A service that a file describes.
#[derive(Debug)]
pub(crate) struct FoundService {
    pub(crate) spec: ServiceSpec,
    /// The positions of its direct and indirect dependencies in [`Found::specs`].
    pub(crate) needs: Vec<usize>,
}

/// Finds services by their names, with their dependencies.
pub(crate) fn find(globals: &Globals, names: &[String]) -> Result<Found> {
    Files::read(globals)?.resolve(globals.runtime_dir.as_deref(), names)
}

/// Returns the services that a command without names uses: those of the project's file, or of the user's file.
pub(crate) fn default_names(globals: &Globals) -> Result<Vec<String>> {
    let files = Files::read(globals)?;
    let default = files.all().find_map(|file| file.default.clone());
    default.ok_or_else(|| {
        let paths: Vec<String> = files.all().map(|file| path_text(&file.path)).collect();
        let place = match paths.is_empty() {
            true => format!("there is no {FILE_NAME}"),
            false => format!("there is no `default` in {}", paths.join(" or ")),
        };
        Error::Usage(format!(
            "the command names no service, and {place} (name a service, or write `default = [\"NAME\"]` above all \
             tables)"
        ))
    })
}

impl Files {
    fn resolve(&self, runtime_dir: Option<&Path>, names: &[String]) -> Result<Found> {
        let mut ids: Vec<ServiceId<'_>> = Vec::new();
        let mut found = Found::default();
        for name in names {
            let Some(id) = self.find(name) else {
                found.named.push(None);
                continue;
            };
            for id in self.order(id)? {
                if ids.contains(&id) {
                    continue;
                }
                let Some((file, service)) = self.service(id) else {
                    continue;
                };
                // Indirect dependencies are included, because the exports of the direct ones may refer to them.
                let needed = self.order(id)?;
                let needs = (0..ids.len()).filter(|&at| needed.contains(&ids[at]));
                let needs: Vec<usize> = needs.collect();
                let spec = file.spec(
                    service,
                    runtime_dir,
                    needs.iter().map(|&at| &found.specs[at].spec),
                )?;
                found.specs.push(FoundService { spec, needs });
                ids.push(id);
            }
            found.named.push(ids.iter().position(|it| *it == id));
        }
        Ok(found)
    }

    /// Returns a service and its dependencies, in the order in which they are acquired.
    pub(super) fn order<'a>(
        &'a self,
        id: ServiceId<'a>,
    ) -> Result<Vec<ServiceId<'a>>, ConfigError> {
        let cycle = match dependency_order::order(id, |id| self.dependencies(id)) {
            Order::Acyclic(order) => return Ok(order),
            Order::Cycle(cycle) => cycle,
        };
        let names: Vec<&str> = cycle.iter().map(|(_, name)| *name).collect();
        let message = format!(
            "services depend on each other in a cycle: {} (remove one `depends-on`)",
            names.join(" -> ")
        );
        let first = cycle.first().and_then(|first| self.service(*first));
        Err(match first {
            Some((file, service)) => file.diagnostic_at(service.position, message).into(),
            None => ConfigError {
                diagnostics: Vec::new(),
            },
        })
    }
}

/// Returns the services that the project's file describes, without their dependencies.
pub(crate) fn of_project(globals: &Globals) -> Result<Vec<ServiceSpec>> {
    let files = Files::read(globals)?;
    let runtime_dir = globals.runtime_dir.as_deref();
    let described = files.project.iter().flat_map(|file| {
        let services = file.services.values();
        services.map(|service| file.spec(service, runtime_dir, std::iter::empty()))
    });
    described.collect()
}

impl File {
    /// Returns the complete description of a service of this file, with its runtime directory and its dependencies.
    fn spec<'a>(
        &self,
        service: &ConfiguredService,
        runtime_dir: Option<&Path>,
        dependencies: impl Iterator<Item = &'a ServiceSpec>,
    ) -> Result<ServiceSpec> {
        let mut spec = service.spec.clone();
        if service.shared {
            spec.runtime_dir = runtime_dir.map(Path::to_owned);
        } else {
            spec.runtime_dir = Some(namespace::open(runtime_dir, &self.root)?);
            spec.project = Some(self.root.clone());
        }
        for dependency in dependencies {
            let dir = namespace::common(dependency.runtime_dir.as_deref())?;
            let dependency = dependency.as_dependency(dir);
            spec.prestart.dependencies.push(dependency);
        }
        self.check(service, &spec).map_err(ConfigError::from)?;
        Ok(spec)
    }
}
