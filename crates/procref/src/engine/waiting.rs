//! Waiting for other clients' starts, and what became of them.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::platform::{ObjectOf, Platform};
use crate::error::{Error, Result};
use crate::kernel::Snapshot;
use crate::record::failures::Failures;
use crate::runtime::deadline::{Deadline, Patience};

/// How many starts may fail, one after the other, until a client waits no longer than it did then. Each
/// client that takes over has the whole time of a start. A crowd that went on waiting would wait for all of
/// them, an hour for sixty clients whose server does not become ready within a minute.
const FAILURES: u32 = 2;

/// What one acquire has seen of the starts that it waited for.
pub(crate) struct Waiting<W: Platform> {
    client: Arc<Client<W>>,
    patience: Patience,
    /// What the note said before the first wait.
    before: Option<Option<Failures>>,
    /// What it said last.
    seen: Option<Failures>,
    /// When the last wait was to end.
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

    /// Before a wait: how long that may be.
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

    /// After a wait.
    pub(crate) async fn end(&mut self) {
        if let Some(failures) = self.client.platform.failures(&self.client.key).await {
            self.seen = Some(failures);
        }
    }

    /// How many starts have failed while this client waited, as far as it knows.
    fn failures(&self) -> u32 {
        let before = self.before.as_ref().and_then(Option::as_ref);
        self.seen.as_ref().map_or(0, |seen| seen.since(before))
    }

    /// The error of a client that failed to start the service, or waited in vain: with what it knows of
    /// the starts that failed before.
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

    /// The note is seen to: by the starter of the service that this client has, or by this client when its
    /// own start failed.
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
        // A note may have been left for this client, among others, also after it looked last. Where a start is under way, that sees to it. One
        // of the others that has not read it yet may lose it; to leave it would leave it to nobody.
        if self.before.is_some() {
            self.client.platform.abandon_failures(&self.client.key);
        }
    }
}
