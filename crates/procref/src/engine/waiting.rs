//! The waits of one acquire for starts of other clients, and the failures of those starts.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::platform::{ObjectOf, Platform};
use crate::error::{Error, Result};
use crate::kernel::Snapshot;
use crate::record::failures::Failures;
use crate::runtime::deadline::{Deadline, Patience};

/// Number of starts that may fail, one after the other, before a client keeps its deadline. Each client that
/// takes over has the full start timeout. Without this limit, the last of sixty clients of a server that does
/// not become ready within a minute would wait an hour.
const FAILURES: u32 = 2;

/// The waits of one acquire, and the failed starts that it has seen.
pub(crate) struct Waiting<W: Platform> {
    client: Arc<Client<W>>,
    patience: Patience,
    /// The note of failed starts before the first wait. `None` before it was read.
    before: Option<Option<Failures>>,
    /// The content of the note at the last read.
    seen: Option<Failures>,
    /// The deadline of the last wait.
    deadline: Option<Deadline>,
}

impl<W: Platform> Waiting<W> {
    pub(crate) fn new(client: &Arc<Client<W>>, patience: Patience) -> Self {
        client.begin_waiting();
        Self {
            client: Arc::clone(client),
            patience,
            before: None,
            seen: None,
            deadline: None,
        }
    }

    /// Waits until no process holds the lock.
    pub(crate) async fn wait_unlocked(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: &Snapshot,
    ) -> Result<()> {
        let patience = self.begin(snapshot.announced).await;
        let client = Arc::clone(&self.client);
        let waited = client.wait_unlocked(object, snapshot, patience).await;
        self.end().await;
        waited
    }

    /// Begins a wait, and returns how long it may take.
    pub(crate) async fn begin(&mut self, announced: Option<Duration>) -> Patience {
        if self.before.is_none() {
            let before = self.client.platform.failures(&self.client.key).await;
            self.before = Some(before);
        }
        let patience = match (self.patience, self.deadline) {
            (Patience::AsAnnounced, Some(deadline)) if self.failures() >= FAILURES => {
                Patience::Until(deadline)
            }
            (patience, _) => patience,
        };
        self.deadline = Some(patience.deadline(announced));
        patience
    }

    /// Ends a wait: reads the note of failed starts.
    pub(crate) async fn end(&mut self) {
        if let Some(failures) = self.client.platform.failures(&self.client.key).await {
            self.seen = Some(failures);
        }
    }

    /// Returns the number of starts that have failed while this client waited, according to the note.
    fn failures(&self) -> u32 {
        let before = self.before.as_ref().and_then(Option::as_ref);
        self.seen.as_ref().map_or(0, |seen| seen.since(before))
    }

    /// Adds the earlier failed starts to the error of a client that failed to start the service or waited too
    /// long.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let failures = self.failures();
        match &self.seen {
            Some(seen) if failures > 0 => Error::StartsFailed {
                service: self.client.key.name().to_owned(),
                failures,
                last: seen.reason.clone(),
                source: Box::new(error),
            },
            _ => error,
        }
    }

    /// Ends all waits without removing the note. If this client has an instance, the instance's starter has
    /// removed the note. If this client's own start failed, the note is for other clients.
    pub(crate) fn finish(mut self) {
        self.before = None;
    }
}

impl<W: Platform> Drop for Waiting<W> {
    fn drop(&mut self) {
        if !self.client.is_ours() {
            return;
        }
        self.client.end_waiting();
        // A starter may have written a note for this client after this client's last read. If another start
        // is running, that start removes the note. Otherwise this client removes it, because no other process
        // does. A client that has not read the note yet then misses it.
        if self.before.is_some() {
            self.client.platform.abandon_failures(&self.client.key);
        }
    }
}
