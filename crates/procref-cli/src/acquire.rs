//! Acquires services, and shows progress on the terminal if that takes a while.

use std::io::{IsTerminal as _, Write as _};
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anstyle::Style;
use console::Term;
use procref::{ServiceHandle, SharedService, State, Status};

use crate::acquired::Acquired;
use crate::definition;
use crate::describe::{self, last_line};
use crate::error::Result;
use crate::globals::Globals;
use crate::output;
use crate::prestart::failure;
use crate::resolve::ResolvedService;
use crate::shell::advice;
use crate::signals::Unsuspended;
use crate::text::{self, shown};
use crate::watch;

/// The services that this process holds, in the order in which it acquired them.
#[derive(Debug)]
pub(crate) struct AcquiredServices(Vec<Acquired>);

impl AcquiredServices {
    /// Acquires the dependencies of the service, and then the service.
    pub(crate) fn new(globals: &Globals, resolved: &ResolvedService) -> Result<Self> {
        let _unsuspended = Unsuspended::begin();
        let mut acquired = Self(Vec::new());
        let mut services = Vec::new();
        for spec in resolved.all() {
            let service = spec.build()?;
            match acquire(globals, &service) {
                Ok(handle) => {
                    // The watched client acquires the same services once more, and the note is printed only once.
                    if !watch::is_watched() {
                        if let Some(note) = definition::note(spec, &handle) {
                            output::note(globals, &note);
                        }
                    }
                    acquired.0.push(Acquired::new(spec, &service, handle));
                    services.push(service);
                }
                Err(error) => {
                    acquired.release()?;
                    let explain =
                        |error| advice::explain(spec, failure::about_program(spec, error));
                    return Err(error.explained(explain));
                }
            }
        }
        // A service may have exited after it was ready, most likely a dependency while its dependents
        // started.
        if let Some(exited) = acquired.0.iter().position(Acquired::has_exited) {
            let error = describe::exited_error(&services[exited]);
            acquired.release()?;
            return Err(error);
        }
        Ok(acquired)
    }

    /// Returns the service itself, without its dependencies.
    pub(crate) fn service(&self) -> &Acquired {
        self.0.last().expect("the service itself was acquired")
    }

    pub(crate) fn all(&self) -> &[Acquired] {
        &self.0
    }

    /// Releases the services in reverse order. Releases all of them, and returns the first error.
    pub(crate) fn release(self) -> Result<()> {
        let _unsuspended = Unsuspended::begin();
        let mut released = Ok(());
        for acquired in self.0.into_iter().rev() {
            released = released.and(acquired.handle.release_blocking());
        }
        Ok(released?)
    }
}

/// The time before progress is shown.
const PATIENCE: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

const SPINNER: [char; 8] = ['⠁', '⠂', '⠄', '⡀', '⢀', '⠠', '⠐', '⠈'];
const DIM: Style = Style::new().dimmed();

fn acquire(globals: &Globals, service: &SharedService) -> Result<ServiceHandle> {
    if globals.quiet || globals.verbose > 0 || !std::io::stderr().is_terminal() {
        return Ok(service.acquire_blocking()?);
    }
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || show_progress(service, &waiting));
        let handle = service.acquire_blocking();
        drop(done);
        Ok(handle?)
    })
}

/// Shows progress until the channel is closed.
fn show_progress(service: &SharedService, waiting: &Receiver<()>) {
    let start = Instant::now();
    let term = Term::stderr();
    let mut shows = String::new();
    let mut pause = PATIENCE;
    let mut frames = SPINNER.iter().cycle();
    while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        if let Ok(status) = service.status() {
            let progress = progress(service.name(), &status);
            let elapsed = text::time(start.elapsed());
            let line = status.log_path().and_then(last_line).unwrap_or_default();
            shows = format!("{progress} ({elapsed}) {DIM}{line}{DIM:#}");
        }
        let frame = frames.next().unwrap_or(&' ');
        let (_, width) = term.size();
        let line = format!("{frame} {shows}");
        let line = console::truncate_str(&line, usize::from(width).saturating_sub(1), "…");
        // The start goes on without a terminal, so a failed write is not an error.
        let _ = term.clear_line();
        let _ = write!(anstream::stderr(), "{line}{DIM:#}");
        pause = TICK;
    }
    if !shows.is_empty() {
        let _ = term.clear_line();
    }
}

fn progress(name: &str, status: &Status) -> String {
    let name = shown(name);
    match status.transition() {
        Some(pid) if pid == process::id() => format!("starting `{name}`"),
        Some(pid) => {
            let suspended = describe::suspended(status.is_transition_suspended());
            let action = match status.state() {
                State::Stopping => "is stopping",
                _ => "is starting",
            };
            format!("waiting for `{name}`, which process {pid}{suspended} {action}")
        }
        None => format!("waiting for `{name}`"),
    }
}
