//! Resolves names to services with all their dependencies.

use std::path::Path;

use super::dependency_order::{self, Order};
use super::diagnostic::ConfigError;
use super::service::ConfiguredService;
use super::{File, Files, ServiceId, namespace};
use crate::error::Result;
use crate::spec::ServiceSpec;

/// The services that some names stand for.
#[derive(Debug, Default)]
pub struct FoundServices {
    /// The services and their direct and indirect dependencies. Each one comes after its dependencies.
    pub specs: Vec<FoundService>,
    /// The position of each name in `specs`, or `None` if no file describes the service.
    pub named: Vec<Option<usize>>,
}

/// A service that a file describes.
#[derive(Clone, Debug)]
pub struct FoundService {
    /// The service.
    pub spec: ServiceSpec,
    /// The positions of its direct and indirect dependencies in [`FoundServices::specs`].
    pub needs: Vec<usize>,
}

impl Files {
    /// Finds services by their names, with their dependencies.
    pub fn resolve(&self, runtime_dir: Option<&Path>, names: &[String]) -> Result<FoundServices> {
        let mut ids: Vec<ServiceId<'_>> = Vec::new();
        let mut found = FoundServices::default();
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

    /// Returns the services that the project's file describes, without their dependencies.
    pub fn of_project(&self, runtime_dir: Option<&Path>) -> Result<Vec<ServiceSpec>> {
        let described = self.project.iter().flat_map(|file| {
            let services = file.services.values();
            services.map(|service| file.spec(service, runtime_dir, std::iter::empty()))
        });
        described.collect()
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
