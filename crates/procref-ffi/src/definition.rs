//! The two ways in which a service is defined.

use std::cell::Cell;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use procref::{ServiceHandle, SharedService, SharedServiceBuilder};
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;
use procref_config::{Project, ResolvedService, program, start_error};

use crate::error::Failure;
use crate::handle::Handle;
use crate::on_ready::OnReady;

/// The description of a service.
#[derive(Clone)]
pub(crate) enum Definition {
    /// A program of the caller.
    Program(Box<ServiceSpec>),
    /// A service of a `procref.toml`.
    Project(ResolvedService),
}

impl Definition {
    /// Returns a service of a file, or of the file that applies to the working directory.
    pub(crate) fn of_project(file: Option<&Path>, name: &str) -> Result<Self, Failure> {
        let project = match file {
            Some(file) => Project::read(file)?,
            None => {
                let dir = env::current_dir().map_err(|error| {
                    Failure::system(format!("could not find the working directory: {error}"))
                })?;
                Project::find(&dir)?.ok_or_else(|| {
                    Failure::invalid(format!("no procref.toml in {} or above it", dir.display()))
                })?
            }
        };
        Ok(Self::Project(project.service(name, &helper())?))
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Program(spec) => &spec.name,
            Self::Project(service) => service.name(),
        }
    }

    /// Builds the service itself, without its dependencies.
    pub(crate) fn build(&self, on_ready: Option<&Arc<OnReady>>) -> Result<SharedService, Failure> {
        match self {
            Self::Program(spec) => {
                let builder = spec.builder(&helper());
                let builder = match &spec.project {
                    Some(dir) => builder.project(dir),
                    None => builder,
                };
                Ok(with(on_ready, builder).build()?)
            }
            // It can be joined and stopped. A start would need the dependencies.
            Self::Project(service) => Ok(service.shared_service()?),
        }
    }

    /// Acquires the service with its dependencies. `service` is the result of `build`.
    pub(crate) async fn acquire(
        &self,
        service: &SharedService,
        on_ready: Option<&Arc<OnReady>>,
    ) -> Result<Handle, Failure> {
        match self {
            Self::Program(spec) => match service.acquire().await {
                Ok(handle) => Ok(Handle::of_program(spec, service, handle)),
                Err(error) => Err(failure(spec, error)),
            },
            Self::Project(resolved) => {
                let change = change(resolved, on_ready);
                Ok(Handle::of_project(resolved.clone().acquire(change).await?))
            }
        }
    }

    /// Does the same as `acquire`, and blocks this thread. A join needs fewer threads and system calls than a future does.
    pub(crate) fn acquire_blocking(
        &self,
        service: &SharedService,
        on_ready: Option<&Arc<OnReady>>,
    ) -> Result<Handle, Failure> {
        match self {
            Self::Program(spec) => match service.acquire_blocking() {
                Ok(handle) => Ok(Handle::of_program(spec, service, handle)),
                Err(error) => Err(failure(spec, error)),
            },
            Self::Project(resolved) => {
                let change = change(resolved, on_ready);
                Ok(Handle::of_project(
                    resolved.clone().acquire_blocking(change)?,
                ))
            }
        }
    }

    /// Returns the handle of a service that was joined without its dependencies.
    pub(crate) fn joined(
        &self,
        service: &SharedService,
        handle: ServiceHandle,
    ) -> Result<Handle, Failure> {
        match self {
            Self::Program(spec) => Ok(Handle::of_program(spec, service, handle)),
            Self::Project(_) => {
                let status = service.status()?;
                let running =
                    RunningService::recorded(service.name(), &status, service.runtime_dir());
                Ok(Handle::of_joined(running, handle))
            }
        }
    }
}

fn failure(spec: &ServiceSpec, error: procref::Error) -> Failure {
    match error {
        // The command line's advice is no help here.
        procref::Error::NoStart { service, .. } => Failure::invalid(format!(
            "service `{service}` is not running or not healthy, and this program cannot start it (pass `argv` to \
             `procref_service_new`)"
        )),
        error => start_error(spec, error).into(),
    }
}

/// Returns the function that adds the callback to the service, and not to its dependencies, which come before it.
fn change(
    resolved: &ResolvedService,
    on_ready: Option<&Arc<OnReady>>,
) -> impl Fn(SharedServiceBuilder) -> SharedServiceBuilder {
    let dependencies = Cell::new(resolved.dependencies().count());
    move |builder| match dependencies.get() {
        0 => with(on_ready, builder),
        left => {
            dependencies.set(left - 1);
            builder
        }
    }
}

fn with(on_ready: Option<&Arc<OnReady>>, builder: SharedServiceBuilder) -> SharedServiceBuilder {
    let Some(on_ready) = on_ready.map(Arc::clone) else {
        return builder;
    };
    builder.on_ready(move |info| {
        let result = on_ready.call(&Handle::of_instance(&info));
        async move { result }
    })
}

/// Returns the program `procref`, which does the work before the programs of some services.
fn helper() -> PathBuf {
    let name = OsStr::new("procref");
    let named = env::var_os("PROCREF_BINARY").map(PathBuf::from);
    let found = named.or_else(|| program::find_in(name, env::var_os("PATH").as_deref()));
    // If there is none, the start of such a service fails with the name in the error.
    found.unwrap_or_else(|| name.into())
}
