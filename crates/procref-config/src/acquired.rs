//! Services that this process holds, with their dependencies.

use std::ffi::OsString;
use std::future::poll_fn;
use std::mem;

use procref::{ServiceHandle, SharedService};

use crate::environment;
use crate::error::{Error, Result};
use crate::exited::exited_error;
use crate::prestart::{failure, root};
use crate::resolved::ResolvedServices;
use crate::running::RunningService;
use crate::shell::advice;
use crate::spec::ServiceSpec;

mod side_by_side;

pub use side_by_side::SideBySide;

/// The references of this process to a service and to its dependencies.
///
/// Dropping the value releases the service first and its dependencies after it.
/// See [`ResolvedService::acquire`](crate::ResolvedService::acquire).
///
/// ```
/// use std::path::Path;
///
/// use procref_config::Project;
///
/// # #[cfg(unix)] {
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("procref.toml");
/// # std::fs::write(&file, "[services.web]\nstart = 'sleep 60'\nready = 'started'\nexport.URL = 'http://x'\n")?;
/// # let runtime_dir = dir.path().join("run");
/// let project = Project::read(&file)?.with_runtime_dir(runtime_dir);
/// let web = project.service("web", Path::new("/usr/bin/procref"))?;
/// let held = web.acquire_blocking(|builder| builder)?;
/// assert_eq!(held.handle().generation(), 1);
/// assert!(held.env().contains(&("URL".to_owned(), "http://x".into())));
/// held.release_blocking()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AcquiredServices {
    /// Each service comes after its dependencies.
    running: Vec<RunningService>,
    handles: Vec<ServiceHandle>,
    /// The position of the first service that the caller named.
    named: usize,
    /// `true` if the caller named one service.
    is_only: bool,
    /// The generation of the first service that the caller named.
    generation: u32,
}

impl AcquiredServices {
    /// Returns the acquired services with their handles, which are in the same order.
    #[doc(hidden)]
    pub fn new(
        resolved: &ResolvedServices,
        services: &[SharedService],
        handles: Vec<ServiceHandle>,
    ) -> Self {
        let running = services.iter().zip(resolved.all()).zip(&handles);
        let running = running.map(|((service, spec), handle)| {
            let dir = service.runtime_dir();
            RunningService::new(spec, dir, handle.info(), handle.definition())
        });
        let named = resolved.first_named();
        Self {
            running: running.collect(),
            named,
            is_only: resolved.only().is_some(),
            generation: handles[named].generation(),
            handles,
        }
    }

    /// Reads the instances that serve now, after a restart. This process holds them by the same references.
    #[doc(hidden)]
    pub fn refresh(
        &mut self,
        resolved: &ResolvedServices,
        services: &[SharedService],
    ) -> procref::Result<()> {
        let specs = resolved.all().zip(services).enumerate();
        for (at, (spec, service)) in specs {
            let status = service.status()?;
            if let Some(info) = status.instance() {
                let dir = service.runtime_dir();
                self.running[at] = RunningService::new(spec, dir, info, status.definition());
            }
            if self.named == at {
                self.generation = status.generation();
            }
        }
        Ok(())
    }

    /// Returns the generation of the service itself.
    #[doc(hidden)]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the error about a service that has exited since it was ready. Most likely it is a dependency, which
    /// exited while its dependents started.
    #[doc(hidden)]
    pub fn exited(&self, services: &[SharedService]) -> Option<Error> {
        let exited = self.handles.iter().position(has_exited)?;
        Some(exited_error(&services[exited]))
    }

    pub(crate) async fn acquire(
        resolved: &ResolvedServices,
        services: &[SharedService],
    ) -> Result<Self> {
        let mut acquiring = SideBySide::new(services);
        let acquired =
            poll_fn(|context| acquiring.poll(context, |at| resolved.needs(at), |_, _| {})).await;
        let handles = acquiring.into_acquired();
        // In both cases the first error is the cause, and an error of a release would hide it.
        if let Err((at, error)) = acquired {
            let _ = release(handles).await;
            let spec = resolved.all().nth(at).expect("the position of a service");
            return Err(start_error(spec, error));
        }
        let acquired = Self::new(resolved, services, handles);
        if let Some(error) = acquired.exited(services) {
            let _ = acquired.release().await;
            return Err(error);
        }
        Ok(acquired)
    }

    /// Returns the handle of the service itself.
    pub fn handle(&self) -> &ServiceHandle {
        &self.handles[self.named]
    }

    /// Returns the variables for a client of the service, as the command line passes them to its client: the exports of
    /// the service and of its dependencies, `PROCREF_PORT` and other variables about the service, and
    /// `PROCREF_PORT_NAME` and others about each service. If a name is repeated, the last value counts.
    #[must_use]
    pub fn env(&self) -> Vec<(String, OsString)> {
        environment::of_clients(&self.running, self.only().map(|(service, _)| service))
    }

    /// Returns the service that the caller named, or `None` if there are several.
    #[doc(hidden)]
    pub fn only(&self) -> Option<(&RunningService, &ServiceHandle)> {
        self.is_only
            .then(|| (&self.running[self.named], self.handle()))
    }

    /// Returns all services. Each one comes after its dependencies.
    #[doc(hidden)]
    pub fn running(&self) -> &[RunningService] {
        &self.running
    }

    /// Releases the service and then its dependencies. Supervisors stop those that no client holds any more. To wait
    /// for that, use [`wait_stopped`](procref::SharedService::wait_stopped).
    ///
    /// ```no_run
    /// # async fn example(web: procref_config::ResolvedService) -> procref_config::Result<()> {
    /// let held = web.acquire(|builder| builder).await?;
    /// println!("port {}", held.handle().port());
    /// held.release().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Releases all of them, and returns the first error of [`ServiceHandle::release`].
    pub async fn release(mut self) -> Result<()> {
        release(mem::take(&mut self.handles)).await
    }

    /// Releases the service and then its dependencies, like [`release`](Self::release), and blocks this thread.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    pub fn release_blocking(mut self) -> Result<()> {
        let handles = mem::take(&mut self.handles).into_iter().rev();
        let released = handles.map(ServiceHandle::release_blocking);
        Ok(released.fold(Ok(()), Result::and)?)
    }
}

impl Drop for AcquiredServices {
    fn drop(&mut self) {
        while let Some(handle) = self.handles.pop() {
            drop(handle);
        }
    }
}

async fn release(handles: Vec<ServiceHandle>) -> Result<()> {
    let mut released = Ok(());
    for handle in handles.into_iter().rev() {
        released = released.and(handle.release().await);
    }
    Ok(released?)
}

/// Returns `true` if the service has a process on this machine and that process has exited.
fn has_exited(handle: &ServiceHandle) -> bool {
    handle.pid() != 0 && !handle.info().is_alive()
}

/// Explains the library's error about a service that could not be acquired.
pub fn start_error(spec: &ServiceSpec, error: procref::Error) -> Error {
    let explain = |error| {
        let error = failure::about_program(spec, error);
        root::explain(spec, advice::explain(spec, error))
    };
    Error::from(error).explained(explain)
}
