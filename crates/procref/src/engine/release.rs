//! Releases the reference and the lock after a handle, a failed start or a cleanup, and stops the service if
//! it is unused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::platform::{ObjectOf, Platform};
use super::transition::Transition;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Lock, Missing, Object, Step};
use crate::runtime::{
    BoxFuture, catch, poll_once, run_without_subscriber, without_subscriber, yield_once,
};

impl<W: Platform> Drop for Transition<W> {
    /// Releases everything that the transition holds. If the release must wait, a thread finishes it, so this
    /// does not block an executor's thread.
    fn drop(&mut self) {
        drop(self.begin_release());
    }
}

impl<W: Platform> Transition<W> {
    /// Returns the future that releases everything, or `None` if there is nothing to release.
    pub(crate) fn begin_release(&mut self) -> Option<Release<W>> {
        let owned = self.take_for_release()?;
        Some(Release {
            client: Arc::clone(owned.client()),
            future: Some(Box::pin(owned.release_all())),
        })
    }

    /// Releases everything, and returns when that is done.
    pub(crate) async fn release(mut self) -> Result<()> {
        match self.begin_release() {
            Some(release) => release.await,
            None => Ok(()),
        }
    }

    /// Releases everything after a failure. The caller returns the error of the failure, so this only logs
    /// its own error.
    pub(super) async fn release_after_failure(self) {
        let service = self.service().to_owned();
        if let Err(error) = self.release().await {
            tracing::error!(service, %error, "could not release the service cleanly after a failure");
        }
    }

    /// Releases everything, and stops the service if no other process uses it.
    ///
    /// Only foreign code panics here: a `tracing` subscriber or the caller's waker. The panic is resumed
    /// after everything was released. Otherwise this process would keep the reference and the lock, and every
    /// other client would wait for it. Each step records its effect before anything is logged, so a second
    /// attempt does the remaining steps.
    async fn release_all(mut self) -> Result<()> {
        let released = match catch(self.release_held()).await {
            Ok(released) => released,
            Err(panic) => {
                // The caller gets the panic, so the result of this attempt is dropped.
                let _ = catch(run_without_subscriber(self.release_held())).await;
                std::panic::resume_unwind(panic);
            }
        };
        match released {
            Ok(callback_error) => callback_error.map_or(Ok(()), Err),
            // The object was removed from outside, together with the reference and the lock.
            Err(Fault::Removed) => {
                self.forget();
                self.end_unpublished().await
            }
            Err(Fault::Refused(error)) => Err(error),
        }
    }

    /// Releases everything. Returns the error of a callback, if one failed and everything was released
    /// anyway.
    async fn release_held(&mut self) -> Step<Option<Error>> {
        if !self.has_reference() && !self.has_lock() {
            return Ok(None);
        }
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Err(Fault::Removed);
        };
        if self.launching.is_some() {
            // A launch cannot be cancelled. No caller waits for this start any more, so its error is dropped.
            let _ = self.finish_launch().await;
        }
        let mut cleared = Cleared::Done;
        while !self.permit_mut().take_if_last() {
            if self.has_lock() {
                cleared = self.clear_unusable(&object).await?;
                self.report_failure(&object).await?;
                self.unlock(Some(Point::UnlockedForOthers)).await?;
            }
            if self.permit_mut().yield_to_handles() {
                return Ok(cleared.error());
            }
        }
        if self.has_reference() {
            if self.has_lock() {
                cleared = self.clear_unusable(&object).await?;
                self.report_failure(&object).await?;
                if self.abandon(Point::Abandoned).await? {
                    return Ok(cleared.error());
                }
                // All other clients have left, because they relied on this process's reference. If this
                // process left in the same way, no process would stop the service. So this process leaves as
                // the last one. It has the lock already.
                self.drop_reference(Point::ReferenceDropped).await?;
            } else if !self.leave_or_lock(&object).await? {
                return Ok(cleared.error());
            }
        }
        if let Cleared::NotStopped(error) = cleared {
            // Keep the object of an instance that could not be stopped, so that the next client tries again.
            // There is no crash point here, because no test can make a process that survives SIGKILL.
            self.unlock(None).await?;
            return Ok(Some(error));
        }
        let callback_error = self.stop_last(&object).await?;
        Ok(cleared.error().or(callback_error))
    }

    /// Releases the reference. Returns `true` if it was the last one, and the lock is held instead.
    async fn leave_or_lock(&mut self, object: &Arc<ObjectOf<W>>) -> Step<bool> {
        let mut patience = None;
        loop {
            if self.leave(Point::Left).await? {
                return Ok(false);
            }
            let snapshot = object.snapshot().await?;
            if snapshot.is_left_to_supervisor()
                && self.leave_to_supervisor(Point::LeftToSupervisor).await?
            {
                tracing::debug!(service = self.service(), "left to its supervisor");
                return Ok(false);
            }
            if self.leave_last(Point::LeftLast).await? {
                return Ok(true);
            }
            // One step checks the pin and leaves. With two steps, another process could unpin the service
            // between them. That process would rely on this client to stop the service, and this client would
            // rely on the pin.
            if snapshot.pinned && self.leave_pinned(Point::LeftPinned).await? {
                return Ok(false);
            }
            if snapshot.pinned || snapshot.clients > 1 || !snapshot.locked {
                // Another client joined or left between the steps.
                continue;
            }
            // The only other process has the lock, and no reference. Only in this case the client waits for the lock:
            // it must not wait for the whole start of another client.
            let patience = *patience.get_or_insert_with(|| self.config.patience());
            let client = Arc::clone(self.client());
            if let Err(timeout) = client.wait_unlocked(object, &snapshot, patience).await {
                self.drop_reference(Point::ReferenceDroppedLate).await?;
                return Err(Fault::Refused(timeout));
            }
        }
    }

    /// Writes why the start failed, for the clients that wait for it. If no client waits any more, this
    /// removes an earlier note. Call this with the lock held.
    async fn report_failure(&mut self, object: &Arc<ObjectOf<W>>) -> Step<()> {
        // The supervisor also sleeps until the lock is free, and is subtracted from the waiters. If it is not
        // sleeping at this moment, a waiter misses the reason. If it were counted as a waiter, no process
        // would remove the note.
        let supervisor = u32::from(self.lock_shared);
        let waiting = object.sleepers().await?.saturating_sub(supervisor);
        let client = Arc::clone(self.client());
        match self.failure.take() {
            Some(reason) if waiting > 0 => {
                client.platform.add_failure(&client.key, &reason).await;
                self.failure_noted = true;
            }
            _ if waiting == 0 => client.platform.clear_failures(&client.key).await,
            _ => {}
        }
        Ok(())
    }

    /// Stops an instance that no client may use, because its start or its stop was interrupted. Call this with the
    /// lock held, while other clients hold references.
    async fn clear_unusable(&mut self, object: &Arc<ObjectOf<W>>) -> Step<Cleared> {
        let snapshot = object.snapshot().await?;
        let Some(instance) = snapshot.instance.filter(|instance| !instance.is_serving()) else {
            return Ok(Cleared::Done);
        };
        yield_once().await;
        match self.stop(object, instance, snapshot.generation).await {
            Ok(callback_error) => {
                self.wait_tree_exit().await?;
                object
                    .publish(None, snapshot.generation, Lock::Keep)
                    .await?;
                crash::point(Point::SettledNone);
                // Keep the name in the record, because other clients hold the service. The last of them
                // removes the record.
                self.platform().keep_name(&self.client().key).await;
                crash::point(Point::SettledRecordRemoved);
                Ok(callback_error.map_or(Cleared::Done, Cleared::CallbackFailed))
            }
            Err(Fault::Refused(error)) => Ok(Cleared::NotStopped(error)),
            Err(Fault::Removed) => Err(Fault::Removed),
        }
    }

    /// Stops the service and removes its object. Call this with the lock held and no references left.
    async fn stop_last(&mut self, object: &Arc<ObjectOf<W>>) -> Step<Option<Error>> {
        let snapshot = object.snapshot().await?;
        crash::point(Point::LookedAsLast);
        if snapshot.pinned {
            self.unlock(Some(Point::UnlockedLast)).await?;
            return Ok(None);
        }
        // One step checks that the supervisor is alive and unlocks. The supervisor's starter may have died
        // before the supervisor could take its share of the lock. Such a supervisor exits when it finds that
        // another process holds the lock.
        if snapshot.is_left_to_supervisor()
            && self.unlock_to_supervisor(Point::UnlockedLast).await?
        {
            return Ok(None);
        }
        let mut callback_error = None;
        if let Some(instance) = snapshot.instance {
            yield_once().await;
            match self.stop(object, instance, snapshot.generation).await {
                Ok(stopped) => callback_error = stopped,
                Err(Fault::Refused(error)) => {
                    // There is no crash point here, for the same reason as in `release_held`.
                    self.unlock(None).await?;
                    return Ok(Some(error));
                }
                Err(Fault::Removed) => return Err(Fault::Removed),
            }
        }
        crash::point(Point::ServiceEnded);
        // In this order: clear, unlink, remove. A death after the first step leaves a blank object and the record of a
        // dead process. A death after the second step leaves a blank object. Neither misleads a client. If the object
        // were removed first, its successor could have a new instance, whose record would then be unlinked.
        object
            .publish(None, snapshot.generation, Lock::Keep)
            .await?;
        crash::point(Point::PublishedNone);
        self.platform().remove_record(&self.client().key).await;
        crash::point(Point::RecordRemoved);
        if !self.failure_noted {
            // A note is left if a recovery failed, but the instance became healthy again without another one.
            self.platform().clear_failures(&self.client().key).await;
        }
        self.remove(Point::SetRemoved).await?;
        Ok(callback_error)
    }
}

/// The result of clearing an instance that no client may use.
enum Cleared {
    /// There was no such instance, or it is dead.
    Done,
    /// The instance is dead, but the callback failed.
    CallbackFailed(Error),
    /// The instance could not be stopped.
    NotStopped(Error),
}

impl Cleared {
    fn error(self) -> Option<Error> {
        match self {
            Self::Done => None,
            Self::CallbackFailed(error) | Self::NotStopped(error) => Some(error),
        }
    }
}

/// A future that releases what a transition holds. If the future is dropped before it is done, a thread
/// finishes the release.
pub(crate) struct Release<W: Platform> {
    client: Arc<Client<W>>,
    future: Option<BoxFuture<Result<()>>>,
}

impl<W: Platform> Release<W> {
    /// Releases as much as possible without waiting and without callbacks. Another thread does the rest. The
    /// calling thread waits for that thread, at most for `patience`.
    pub(super) fn finish_here(mut self, patience: Duration) {
        if let Some(done) = self.finish_on_drop() {
            self.client.platform.block_until_done(&done, patience);
        }
    }

    /// Finishes the release without a caller that could handle its error.
    ///
    /// This runs in `drop`, which must not panic, and in a thread that unwinds, where a second panic would
    /// abort the program. So this logs nothing while the thread unwinds, and catches panics. The panic hook
    /// has already reported them.
    fn finish_on_drop(&mut self) -> Option<mpsc::Receiver<()>> {
        let future = self.future.take()?;
        if !self.client.is_ours() {
            // A forked child owns nothing of its parent.
            return None;
        }
        let finish = AssertUnwindSafe(|| self.finish(future));
        let finished = if thread::panicking() {
            catch_unwind(|| without_subscriber(finish))
        } else {
            catch_unwind(finish)
        };
        finished.unwrap_or_default()
    }

    fn finish(&self, mut future: BoxFuture<Result<()>>) -> Option<mpsc::Receiver<()>> {
        if let Poll::Ready(result) = poll_once(&mut future) {
            log(result);
            return None;
        }
        let (done, receiver) = mpsc::channel();
        let rest = Box::pin(async move {
            log(future.await);
            // An error means that the waiting thread has given up.
            let _ = done.send(());
        });
        self.client.platform.spawn("stop the service", rest);
        Some(receiver)
    }
}

impl<W: Platform> Future for Release<W> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        // The future is taken out while it is polled. If it panics, `drop` does not poll it a second time.
        let Some(mut future) = self.future.take() else {
            return Poll::Ready(Ok(()));
        };
        let poll = future.as_mut().poll(context);
        if poll.is_pending() {
            self.future = Some(future);
        }
        poll
    }
}

impl<W: Platform> Drop for Release<W> {
    fn drop(&mut self) {
        self.finish_on_drop();
    }
}

fn log(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "could not release a service cleanly");
    }
}
