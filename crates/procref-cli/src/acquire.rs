//! Acquires services side by side, and shows progress on the terminal if that takes a while.

use std::future::{Future, pending, poll_fn};
use std::io::IsTerminal as _;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use procref::{ServiceHandle, SharedService};
use procref_config::environment::Variables;
use procref_config::resolved::ResolvedServices;
use procref_config::running::RunningService;
use procref_config::spec::ServiceSpec;
use procref_config::{SideBySide, definition, start_error};

use crate::error::Result;
use crate::globals::Globals;
use crate::helper;
use crate::output;
use crate::signals::Unsuspended;
use crate::watch;

mod progress;

use progress::Progress;

/// The services that this process holds. Each one comes after its dependencies.
#[derive(Debug)]
pub(crate) struct AcquiredServices(procref_config::AcquiredServices);

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
        let services = specs.iter().map(|spec| helper::build(spec));
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
                release(handles)?;
                Ok(None)
            }
            Some(Err((at, error))) => {
                release(handles)?;
                Err(start_error(specs[at], error).into())
            }
            Some(Ok(())) => {
                let acquired = procref_config::AcquiredServices::new(resolved, &services, handles);
                if let Some(error) = acquired.exited(&services) {
                    acquired.release_blocking()?;
                    return Err(error.into());
                }
                Ok(Some(Self(acquired)))
            }
        }
    }

    /// Returns the service that the command names, or `None` if it names several.
    pub(crate) fn only(&self) -> Option<(&RunningService, &ServiceHandle)> {
        self.0.only()
    }

    /// Returns the service of a command that names one.
    pub(crate) fn service(&self) -> (&RunningService, &ServiceHandle) {
        self.only().expect("the command names one service")
    }

    /// Returns the generation of the service of a command that names one.
    pub(crate) fn generation(&self) -> u32 {
        self.0.generation()
    }

    /// Reads the instances that serve now, after a restart. This process holds them by the same references.
    pub(crate) fn refresh(&mut self, resolved: &ResolvedServices) -> Result<()> {
        let services = resolved.all().map(helper::build);
        let services: Vec<SharedService> = services.collect::<procref::Result<_>>()?;
        Ok(self.0.refresh(resolved, &services)?)
    }

    pub(crate) fn running(&self) -> &[RunningService] {
        self.0.running()
    }

    /// Returns the variables for a client of these services.
    pub(crate) fn variables(&self) -> Variables {
        self.0.env()
    }

    /// Releases the services in reverse order. Releases all of them, and returns the first error.
    pub(crate) fn release(self) -> Result<()> {
        let _unsuspended = Unsuspended::begin();
        Ok(self.0.release_blocking()?)
    }
}

fn release(handles: Vec<ServiceHandle>) -> Result<()> {
    let mut released = Ok(());
    for handle in handles.into_iter().rev() {
        released = released.and(handle.release_blocking());
    }
    Ok(released?)
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
