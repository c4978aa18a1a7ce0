//! Services with all their dependencies, in the order in which they are acquired.

use crate::error::Result;
use crate::files::{FoundService, FoundServices};
use crate::spec::ServiceSpec;

mod exports;

/// Services with all their dependencies.
#[derive(Clone, Debug)]
pub struct ResolvedServices {
    /// Each service comes after its dependencies.
    services: Vec<FoundService>,
    /// The positions of the services that the caller named. There is at least one.
    named: Vec<usize>,
}

impl ResolvedServices {
    /// Returns the services that these names stand for. Calls `unknown` for each name that no file describes.
    ///
    /// # Errors
    ///
    /// Fails if two services export the same variable.
    pub fn new(
        found: FoundServices,
        names: &[String],
        unknown: impl Fn(&str) -> Result<ServiceSpec>,
    ) -> Result<Self> {
        let mut resolved = Self {
            services: found.specs,
            named: Vec::new(),
        };
        for (name, position) in names.iter().zip(found.named) {
            let known = || resolved.all().position(|spec| spec.name == *name);
            let position = match position.or_else(known) {
                Some(position) => position,
                None => {
                    let (spec, needs) = (unknown(name)?, Vec::new());
                    resolved.services.push(FoundService { spec, needs });
                    resolved.services.len() - 1
                }
            };
            if !resolved.named.contains(&position) {
                resolved.named.push(position);
            }
        }
        exports::check(&resolved)?;
        Ok(resolved)
    }

    /// Returns all services. Each one comes after its dependencies.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &ServiceSpec> + ExactSizeIterator {
        self.services.iter().map(|it| &it.spec)
    }

    /// Returns the positions in [`all`](Self::all) of the direct and indirect dependencies of a service.
    pub fn needs(&self, position: usize) -> &[usize] {
        &self.services[position].needs
    }

    /// Returns the services that the caller named.
    pub fn named(&self) -> impl Iterator<Item = &ServiceSpec> {
        self.named.iter().map(|&at| &self.services[at].spec)
    }

    /// Returns the services that the caller named.
    pub fn named_mut(&mut self) -> impl Iterator<Item = &mut ServiceSpec> {
        let services = self.services.iter_mut().enumerate();
        let named = &self.named;
        services.filter_map(|(at, it)| named.contains(&at).then_some(&mut it.spec))
    }

    /// Returns the first service that the caller named.
    pub(crate) fn first(&self) -> &ServiceSpec {
        &self.services[self.first_named()].spec
    }

    /// Returns the position in [`all`](Self::all) of the first service that the caller named.
    pub(crate) fn first_named(&self) -> usize {
        self.named[0]
    }

    /// Returns the position of the service that the caller named, or `None` if there are several.
    pub fn only(&self) -> Option<usize> {
        match self.named[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns the service that the caller named, or `None` if there are several.
    pub fn only_mut(&mut self) -> Option<&mut ServiceSpec> {
        let only = self.only()?;
        Some(&mut self.services[only].spec)
    }
}
