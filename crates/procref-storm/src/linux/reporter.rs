//! Sends the events of a client to the runner.

use std::sync::OnceLock;

use procref_testkit::observe::Identity;
use procref_testkit::process::exit_at_once;

use crate::linux::event::{Event, EventKind};

/// Number of characters of an error that are reported. A longer line could exceed the size up to which a write
/// to a pipe is atomic.
const MAX_ERROR: usize = 1500;

/// Writes the events of a client to its standard output.
pub struct Reporter {
    service: usize,
    process: OnceLock<Identity>,
}

impl Reporter {
    pub fn new(service: usize) -> Self {
        Self {
            service,
            process: OnceLock::new(),
        }
    }

    /// Reports an event in a single write, so that lines of several clients do not mix.
    pub fn report(&self, mut kind: EventKind) {
        let process = *self.process.get_or_init(Identity::own);
        if let EventKind::Failed { error, .. } | EventKind::Violation(error) = &mut kind {
            let end = error
                .char_indices()
                .nth(MAX_ERROR)
                .map_or(error.len(), |(index, _)| index);
            error.truncate(end);
        }
        let event = Event::now(process, self.service, kind);
        let mut line = serde_json::to_string(&event).expect("plain data");
        line.push('\n');
        if rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).is_err() {
            // The runner has exited.
            exit_at_once(1);
        }
    }
}
