//! Acquiring services, and showing on the terminal that it takes a while.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use procref::{ServiceHandle, SharedService, State, Status};

use crate::args::Globals;
use crate::definition;
use crate::error::Result;
use crate::json;
use crate::output::{self, shown};
use crate::prestart::{self, Acquired};
use crate::resolve::Plan;
use crate::shell;
use crate::signals::Unsuspended;
use crate::watch;

/// Services that this process holds, in the order in which they were acquired.
#[derive(Debug)]
pub(crate) struct Held(Vec<Acquired>);

impl Held {
    /// Acquires what the service needs, and the service.
    pub(crate) fn new(globals: &Globals, plan: &Plan) -> Result<Self> {
        let _unsuspended = Unsuspended::begin();
        let mut held = Self(Vec::new());
        let mut services = Vec::new();
        for spec in plan.dependencies.iter().chain([&plan.service]) {
            let service = spec.build()?;
            let handle = acquire(globals, &service);
            match handle {
                Ok(handle) => {
                    // The watched client acquires the same services once more.
                    if !watch::is_watched() {
                        if let Some(note) = definition::note(spec, &handle) {
                            output::note(globals, &note);
                        }
                    }
                    held.0.push(Acquired::new(spec, &service, handle));
                    services.push(service);
                }
                Err(error) => {
                    held.release()?;
                    let explain =
                        |error| shell::explain(spec, prestart::about_program(spec, error));
                    return Err(error.explained(explain));
                }
            }
        }
        // A service may have ended since it was ready, most likely one that others were started after.
        let ended = held.0.iter().position(Acquired::has_ended);
        if let Some(ended) = ended {
            let error = json::death(&services[ended]);
            held.release()?;
            return Err(error);
        }
        Ok(held)
    }

    /// The service that was asked for.
    pub(crate) fn service(&self) -> &Acquired {
        self.0.last().expect("the service itself was acquired")
    }

    pub(crate) fn all(&self) -> &[Acquired] {
        &self.0
    }

    /// Lets go, of the last one first.
    pub(crate) fn release(self) -> Result<()> {
        let _unsuspended = Unsuspended::begin();
        let mut released = Ok(());
        for acquired in self.0.into_iter().rev() {
            // All of them, whatever the first failure is.
            released = released.and(acquired.handle.release_blocking());
        }
        Ok(released?)
    }
}

/// What is shown only if it takes longer.
const PATIENCE: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

/// How much of a log is looked at for its last line.
const TAIL: u64 = 4096;

fn acquire(globals: &Globals, service: &SharedService) -> Result<ServiceHandle> {
    if globals.quiet || globals.verbose > 0 || !std::io::stderr().is_terminal() {
        return Ok(service.acquire_blocking()?);
    }
    thread::scope(|scope| {
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || show(service, &waiting));
        let handle = service.acquire_blocking();
        drop(done);
        Ok(handle?)
    })
}

/// Until the channel is closed.
fn show(service: &SharedService, waiting: &Receiver<()>) {
    let begun = Instant::now();
    if waiting.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let bar = ProgressBar::new_spinner().with_elapsed(begun.elapsed());
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
    {
        bar.set_style(style);
    }
    let mut pause = Duration::ZERO;
    while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        if let Ok(status) = service.status() {
            bar.set_prefix(doing(service.name(), &status));
            let line = status.log_path().and_then(last_line);
            bar.set_message(line.unwrap_or_default());
        }
        bar.tick();
        pause = TICK;
    }
    bar.finish_and_clear();
}

fn doing(name: &str, status: &Status) -> String {
    let name = shown(name);
    match status.transition() {
        Some(pid) if pid == process::id() => format!("starting {name}"),
        Some(pid) => {
            let suspended = json::suspended(status.is_transition_suspended());
            let does = match status.state() {
                State::Stopping => "stops",
                _ => "starts",
            };
            format!("waiting for {name}, which process {pid}{suspended} {does}")
        }
        None => format!("waiting for {name}"),
    }
}

/// The last whole line of a file.
pub(crate) fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    text.lines().next_back().map(shown)
}
