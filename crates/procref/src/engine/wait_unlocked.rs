//! Waits until no process holds the transition lock.

use std::sync::Arc;

use super::client::Client;
use super::platform::{ObjectOf, Platform};
use crate::error::{Error, Result};
use crate::kernel::{Object, Snapshot};
use crate::launch::own_start::own_start;
use crate::runtime::deadline::{Deadline, Patience};

impl<W: Platform> Client<W> {
    /// Waits until no process holds the transition lock, or until the client's time limit. `seen` is the last
    /// snapshot.
    ///
    /// When the time is up, this reads the announced limit again, because it may have changed. A process
    /// takes the lock before it announces its limit, and may announce another limit when a stop follows a
    /// start. If the limit were read once, a client that reads it right after the lock was taken would not
    /// wait long enough for a slow start.
    pub(crate) async fn wait_unlocked(
        self: &Arc<Self>,
        object: &Arc<ObjectOf<W>>,
        seen: &Snapshot,
        patience: Patience,
    ) -> Result<()> {
        if self.platform.is_own_start(&self.key, seen) {
            return Err(own_start(&self.key));
        }
        let mut announced = seen.announced;
        loop {
            let deadline = patience.deadline(announced);
            if self.is_unlocked_by(object, deadline).await? {
                return Ok(());
            }
            match object.snapshot().await {
                Ok(again) if patience.is_renewed(announced, again.announced) => {
                    announced = again.announced;
                }
                Ok(_) => return Err(self.lock_timeout_error(object, deadline).await),
                // Ignore the error, because the caller's next step fails in the same way.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits until no process holds the transition lock. Returns `false` if that takes until the deadline.
    ///
    /// The wait in the kernel blocks a thread and cannot be cancelled. So one thread of procref waits for all
    /// futures of this process. The thread waits until the lock is free, and does not take it. If the thread
    /// took the lock, it could take the lock for futures that were dropped.
    pub(crate) async fn is_unlocked_by(
        self: &Arc<Self>,
        object: &Arc<ObjectOf<W>>,
        deadline: Deadline,
    ) -> Result<bool> {
        // The thread keeps the client and its shared wait alive for later futures.
        let (client, waited_on) = (Arc::clone(self), Arc::clone(object));
        let unlocked = async move {
            // The result does not matter: each future that wakes reads the object again, and gets the same error.
            let _ = waited_on.wait_unlocked().await;
            if !client.has_waiting() {
                // A starter that failed counted this thread as a waiter, and wrote a note for it. But all
                // waiting futures were dropped, so this thread removes the note.
                client.platform.abandon_failures(&client.key);
            }
            drop(client);
            Ok(())
        };
        let purpose = "wait for another process's transition";
        let woken = self.unlock.wait(&self.platform, purpose, unlocked);
        let woken = self.platform.resuming_supervisor(object, woken);
        match self.platform.timeout(deadline.left(), woken).await {
            Some(woken) => woken.map(|()| true),
            None => Ok(false),
        }
    }

    /// Returns the error of a client that waited too long for the transition of another process.
    pub(crate) async fn lock_timeout_error(
        &self,
        object: &Arc<ObjectOf<W>>,
        deadline: Deadline,
    ) -> Error {
        let blocker = self.platform.blocker(object).await;
        let operation = "waiting for another process to start or stop it";
        self.timeout_error(operation, deadline.limit(), blocker)
    }
}
