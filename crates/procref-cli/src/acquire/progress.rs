//! Shows on the terminal which services a command waits for.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anstyle::Style;
use console::Term;
use procref::{SharedService, State, Status};

use crate::describe::{self, last_line};
use crate::text::{self, shown};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The time before progress is shown.
const PATIENCE: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(100);

const SPINNER: [char; 8] = ['⠁', '⠂', '⠄', '⡀', '⢀', '⠠', '⠐', '⠈'];
const DIM: Style = Style::new().dimmed();

/// The services that are not acquired yet.
pub(super) struct Progress<'a> {
    services: &'a [SharedService],
    missing: Mutex<BTreeSet<usize>>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(services: &'a [SharedService]) -> Self {
        Self {
            services,
            missing: Mutex::new((0..services.len()).collect()),
        }
    }

    /// Removes a service that was acquired.
    pub(super) fn remove(&self, at: usize) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.remove(&at);
    }

    /// Returns the first service that is not acquired, and the number of the others.
    fn first(&self) -> Option<(&SharedService, usize)> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *missing.first()?;
        Some((&self.services[first], missing.len() - 1))
    }

    /// Shows progress until the channel is closed. In the background nothing is shown, because it would overwrite the
    /// command line that the user is writing.
    pub(super) fn show(&self, waiting: &Receiver<()>) {
        let start = Instant::now();
        let term = Term::stderr();
        let mut shows = String::new();
        let mut pause = PATIENCE;
        let mut frames = SPINNER.iter().cycle();
        while waiting.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = TICK;
            if !sys::is_foreground() {
                continue;
            }
            if let Some((service, others)) = self.first() {
                if let Ok(status) = service.status() {
                    let progress = line(service.name(), &status, others);
                    let elapsed = text::time(start.elapsed());
                    let line = status.log_path().and_then(last_line).unwrap_or_default();
                    shows = format!("{progress} ({elapsed}) {DIM}{line}{DIM:#}");
                }
            }
            let frame = frames.next().unwrap_or(&' ');
            let (_, width) = term.size();
            let line = format!("{frame} {shows}");
            let line = console::truncate_str(&line, usize::from(width).saturating_sub(1), "…");
            // The start goes on without a terminal, so a failed write is not an error.
            let _ = term.clear_line();
            let _ = write!(anstream::stderr(), "{line}{DIM:#}");
        }
        if !shows.is_empty() && sys::is_foreground() {
            let _ = term.clear_line();
        }
    }
}

fn line(name: &str, status: &Status, others: usize) -> String {
    let name = shown(name);
    let first = match status.transition() {
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
    };
    match others {
        0 => first,
        others => format!("{first}, and {others} more"),
    }
}
