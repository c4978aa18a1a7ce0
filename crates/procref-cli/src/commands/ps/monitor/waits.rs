//! Sleeps in the kernel until a service is ready or has stopped.

use std::collections::HashSet;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use procref::{SharedService, State, Status};

use super::Event;

/// The longest wait for a start. If the start fails, no later one may follow.
const LONGEST_START: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    Ready,
    Stopped,
}

/// What is waited for. The pids tell two instances of a service apart: if the kernel object was removed, the next
/// instance has the same generation.
type Wait = (String, Change, u32, [Option<u32>; 2]);

/// The waits of this process. Each has a thread, which ends with the wait.
pub(super) struct Waits {
    /// Each change is waited for once in the life of an instance. A wait that ends at once would otherwise be repeated
    /// without a pause.
    begun: HashSet<Wait>,
    events: Sender<Event>,
}

impl Waits {
    pub(super) fn new(events: Sender<Event>) -> Self {
        Self {
            begun: HashSet::new(),
            events,
        }
    }

    /// Begins to wait for the next change of this service that the kernel reports.
    pub(super) fn begin(
        &mut self,
        status: &Status,
        service: impl FnOnce() -> Option<SharedService>,
        object: &str,
    ) {
        let change = match status.state() {
            State::Starting => Change::Ready,
            // The kernel does not report when a dead service is replaced.
            State::Dead => return,
            // The file describes the service, and it has no kernel object.
            State::Absent if status.clients() == 0 => return,
            _ => Change::Stopped,
        };
        let instance = status.instance().map(|info| info.pid());
        let pids = [instance, status.transition()];
        let wait = (object.to_owned(), change, status.generation(), pids);
        if !self.begun.insert(wait) {
            return;
        }
        let Some(service) = service() else {
            return;
        };
        let events = self.events.clone();
        let wait = move || {
            let changed = match change {
                Change::Ready => service.wait_ready_blocking(LONGEST_START).is_ok(),
                Change::Stopped => service.wait_stopped_blocking(Duration::MAX).is_ok(),
            };
            if changed {
                // The receiver is dropped when this program exits.
                let _ = events.send(Event::Changed);
            }
        };
        // Without a thread, the screen is updated at its interval.
        let _ = thread::Builder::new()
            .name("procref: wait".to_owned())
            .spawn(wait);
    }
}
