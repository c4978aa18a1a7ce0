//! Acquires services side by side, and shows progress on the terminal if that takes a while.

use std::future::{Future, pending, poll_fn};
use std::io::IsTerminal as _;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use procref::{ServiceHandle, SharedService};

use crate::definition;
use crate::describe;
use crate::environment::{self, Variables};
use crate::error::{Error, Result};
use crate::globals::Globals;
use crate::output;
use crate::prestart::failure;
use crate::resolve::ResolvedServices;
use crate::running::RunningService;
use crate::shell::advice;
use crate::signals::Unsuspended;
use crate::spec::ServiceSpec;
use crate::watch;

mod progress;
mod side_by_side;

use progress::Progress;
use side_by_side::SideBySide;

/// The services that this process holds. Each one comes after its dependencies.
#[derive(Debug)]
pub(crate) struct AcquiredServices {
    running: Vec<RunningService>,
    handles: Vec<ServiceHandle>,
    /// The position of the service that the command names, if it names one.
    only: Option<usize>,
}

impl AcquiredServices {
    /// Acquires all services. If one of them fails, releases the others.
    pub(crate) fn new(globals: &Globals, resolved: &ResolvedServices) -> Result<Self> {
        let acquired = Self::unless(globals, resolved, pending())?;
        Ok(acquired.expect("a pending future never gives up"))
    }

    /// Acquires all services. If `given_up` is ready first, releases everything and returns `None`.
    pub(crate) fn unless(
        globals: &Globals,
        resolved: &ResolvedServices,
        given_up: impl Future<Output = ()>,
    ) -> Result<Option<Self>> {
        let _unsuspended = Unsuspended::begin();
        let specs: Vec<&ServiceSpec> = resolved.all().collect();
        let services = specs.iter().map(|spec| spec.build());
        let services: Vec<SharedService> = services.collect::<procref::Result<_>>()?;
        let progress = Progress::new(&services);
        let needs = |at: usize| resolved.needs(at);
        let acquired = |at: usize, handle: &ServiceHandle| {
            progress.remove(at);
            // The watched client acquires the same services once more, and the note is printed only once.
            if !watch::is_watched() {
                if let Some(note) = definition::note(specs[at], handle) {
                    output::note(globals, &note);
                }
            }
        };
        let mut acquiring = SideBySide::new(&services);
        let failed = with_progress(globals, &progress, || {
            let mut given_up = pin!(given_up);
            pollster::block_on(poll_fn(|context| {
                if given_up.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                acquiring.poll(context, needs, acquired).map(Some)
            }))
        });
        let handles = acquiring.into_acquired();
        match failed {
            None => {
                release(handles.into_iter().flatten())?;
                return Ok(None);
            }
            Some(Err((at, error))) => {
                release(handles.into_iter().flatten())?;
                let spec = specs[at];
                let explain = |error| advice::explain(spec, failure::about_program(spec, error));
                return Err(Error::from(error).explained(explain));
            }
            Some(Ok(())) => {}
        }
        let handles: Vec<ServiceHandle> = handles.into_iter().flatten().collect();
        let running = services.iter().zip(&specs).zip(&handles);
        let running = running.map(|((service, spec), handle)| {
            let dir = service.runtime_dir();
            RunningService::new(spec, dir, handle.info(), handle.definition())
        });
        let acquired = Self {
            running: running.collect(),
            only: resolved.only(),
            handles,
        };
        // A service may have exited after it was ready, most likely a dependency while its dependents
        // started.
        if let Some(exited) = acquired.handles.iter().position(has_exited) {
            let error = describe::exited_error(&services[exited]);
            acquired.release()?;
            return Err(error);
        }
        Ok(Some(acquired))
    }

    /// Returns the service that the command names, or `None` if it names several.
    pub(crate) fn only(&self) -> Option<(&RunningService, &ServiceHandle)> {
        let at = self.only?;
        Some((&self.running[at], &self.handles[at]))
    }

    /// Returns the service of a command that names one.
    pub(crate) fn service(&self) -> (&RunningService, &ServiceHandle) {
        self.only().expect("the command names one service")
    }

    pub(crate) fn running(&self) -> &[RunningService] {
        &self.running
    }

    /// Returns the variables for a client of these services.
    pub(crate) fn variables(&self) -> Variables {
        environment::of_clients(&self.running, self.only().map(|(service, _)| service))
    }

    /// Releases the services in reverse order. Releases all of them, and returns the first error.
    pub(crate) fn release(self) -> Result<()> {
        let _unsuspended = Unsuspended::begin();
        release(self.handles.into_iter())
    }
}

fn release(handles: impl DoubleEndedIterator<Item = ServiceHandle>) -> Result<()> {
    let mut released = Ok(());
    for handle in handles.rev() {
        released = released.and(handle.release_blocking());
    }
    Ok(released?)
}

/// Returns `true` if the service has a process on this machine and that process has exited.
fn has_exited(handle: &ServiceHandle) -> bool {
    handle.pid() != 0 && !handle.info().is_alive()
}

fn with_progress<T>(globals: &Globals, progress: &Progress<'_>, acquire: impl FnOnce() -> T) -> T {
    if globals.quiet || globals.verbose > 0 || !std::io::stderr().is_terminal() {
        return acquire();
    }
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || progress.show(&waiting));
        let acquired = acquire();
        drop(done);
        acquired
    })
}
