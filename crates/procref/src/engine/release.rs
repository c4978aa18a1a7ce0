//! Letting go: of a handle, of a start that failed, of a service that nobody uses any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use super::client::{Client, Permit};
use super::config::Config;
use super::platform::{ObjectOf, Platform};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Instance, Lock, Missing, Object, Step};
use crate::runtime::{BoxFuture, catch, poll_once, unheard, without_subscriber, yield_once};

/// What the future that has the turn holds in the kernel.
pub(crate) struct Hold<W: Platform> {
    pub(crate) permit: Permit<W>,
    pub(crate) config: Arc<Config>,
    /// Open whenever `reference` or `lock` is true.
    object: Option<Arc<ObjectOf<W>>>,
    pub(crate) reference: bool,
    pub(crate) lock: bool,
    /// A service that is being launched. Kept here so that a start that is cancelled does not lose it:
    /// it goes on by itself, and what comes of it is to be ended. Never locked: a mutex makes of a future
    /// that one thread may poll something that others may know of.
    pub(crate) launching: Option<Mutex<BoxFuture<Result<W::Running>>>>,
    /// One that was launched and is not ready yet.
    pub(crate) running: Option<Arc<W::Running>>,
    /// A supervisor was launched, which shares the lock.
    pub(crate) lock_shared: bool,
    /// Why the start by this client failed.
    pub(crate) failure: Option<String>,
    /// An instance that a callback of this client has returned, until it serves. If the object is removed from
    /// outside before that, no other process can find the instance, so this client stops it.
    pub(crate) unpublished: Option<(Instance, ServiceInfo)>,
}

impl<W: Platform> Hold<W> {
    /// Begins with what the process has: its reference, if it has handles.
    pub(crate) fn begin(permit: Permit<W>, config: &Arc<Config>) -> Self {
        Self {
            reference: permit.is_referenced(),
            permit,
            config: Arc::clone(config),
            object: None,
            lock: false,
            launching: None,
            running: None,
            lock_shared: false,
            failure: None,
            unpublished: None,
        }
    }

    /// The last handle was put down: the reference is to be given back.
    pub(crate) fn last(permit: Permit<W>, config: &Arc<Config>) -> Self {
        Self {
            permit,
            config: Arc::clone(config),
            object: None,
            reference: true,
            lock: false,
            launching: None,
            running: None,
            lock_shared: false,
            failure: None,
            unpublished: None,
        }
    }

    /// Gives the reference back if that takes no more than one step, because other processes hold one,
    /// too, or a supervisor sees to the service. The common case, without a future that may have to
    /// outlive its caller.
    pub(crate) fn try_release(&self) -> bool {
        let Some(object) = self.permit.client().known_object() else {
            return false;
        };
        let known = self.permit.known();
        let to_supervisor = known.is_some_and(|current| current.instance.command);
        let left = if to_supervisor {
            poll_once(object.leave_to_supervisor())
        } else {
            poll_once(object.leave())
        };
        let left = matches!(left, Poll::Ready(Ok(true)));
        if left {
            crash::point(if to_supervisor {
                Point::LeftToSupervisor
            } else {
                Point::Left
            });
        }
        left
    }

    /// The lock was taken along with the last reference.
    pub(crate) fn locked(permit: Permit<W>, config: &Arc<Config>) -> Self {
        Self {
            lock: true,
            ..Self::begin(permit, config)
        }
    }

    pub(crate) fn platform(&self) -> W {
        self.permit.client().platform.clone()
    }

    pub(crate) fn service(&self) -> &str {
        self.permit.client().key.name()
    }

    pub(crate) async fn object(&mut self, missing: Missing) -> Result<Option<Arc<ObjectOf<W>>>> {
        if self.object.is_none() {
            self.object = self.permit.client().object(missing).await?;
        }
        Ok(self.object.clone())
    }

    /// The object is gone, and what was held on it.
    pub(crate) fn forget(&mut self) {
        self.permit.forget_object();
        self.object = None;
        self.reference = false;
        self.lock = false;
    }

    /// Gives everything back, and stops the service if nobody else uses it.
    ///
    /// What panics on the way is foreign code: a `tracing` subscriber, or the caller's waker. The panic goes on to the
    /// caller, but only after everything was given back: otherwise this process would keep lock and reference, and every
    /// other client would wait for it. Each step notes what it has given back before anything is logged, so a second
    /// attempt does the rest.
    pub(crate) async fn give_back(mut self) -> Result<()> {
        let let_go = match catch(self.let_go()).await {
            Ok(let_go) => let_go,
            Err(panic) => {
                // Its outcome has no place beside the panic.
                let _ = catch(unheard(self.let_go())).await;
                std::panic::resume_unwind(panic);
            }
        };
        match let_go {
            Ok(complaint) => complaint.map_or(Ok(()), Err),
            // The object was removed from outside: nothing is held any more.
            Err(Fault::Removed) => {
                self.forget();
                self.end_unpublished().await
            }
            Err(Fault::Refused(error)) => Err(error),
        }
    }

    /// What it returns went wrong on the way, but everything was given back.
    async fn let_go(&mut self) -> Step<Option<Error>> {
        if !self.reference && !self.lock {
            return Ok(None);
        }
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Err(Fault::Removed);
        };
        if self.launching.is_some() {
            // It cannot be called off. What went wrong with it is the error of a start that nobody waits
            // for any more.
            let _ = self.launched().await;
        }
        let mut settled = Cleared::Done;
        while !self.permit.take_if_last() {
            if self.lock {
                settled = self.clear_unusable(&object).await?;
                self.leave_word(&object).await?;
                object.unlock().await?;
                crash::point(Point::UnlockedForOthers);
                self.lock = false;
            }
            if self.permit.yield_to_handles() {
                return Ok(settled.complaint());
            }
        }
        if self.reference {
            if self.lock {
                settled = self.clear_unusable(&object).await?;
                self.leave_word(&object).await?;
                if object.abandon().await? {
                    (self.reference, self.lock) = (false, false);
                    crash::point(Point::Abandoned);
                    return Ok(settled.complaint());
                }
                // Everybody else has left since: they could, because we held a reference. To go like
                // them would leave the service to nobody, so we are the last leaver now, and have
                // the lock already.
                object.drop_reference().await?;
                self.reference = false;
                crash::point(Point::ReferenceDropped);
            } else if !self.leave(&object).await? {
                return Ok(settled.complaint());
            }
        }
        if let Cleared::NotStopped(error) = settled {
            // What could not be stopped keeps its set, for the next one to try. No crash point: what
            // SIGKILL does not end no test can make.
            object.unlock().await?;
            self.lock = false;
            return Ok(Some(error));
        }
        let complaint = self.stop_last(&object).await?;
        Ok(settled.complaint().or(complaint))
    }

    /// True: it was the last reference, and the lock is ours.
    async fn leave(&mut self, object: &Arc<ObjectOf<W>>) -> Step<bool> {
        let mut patience = None;
        loop {
            if object.leave().await? {
                self.reference = false;
                crash::point(Point::Left);
                return Ok(false);
            }
            let snapshot = object.snapshot().await?;
            if snapshot.is_left_to_supervisor() && object.leave_to_supervisor().await? {
                self.reference = false;
                crash::point(Point::LeftToSupervisor);
                tracing::debug!(service = self.service(), "left to its supervisor");
                return Ok(false);
            }
            if object.leave_last().await? {
                (self.reference, self.lock) = (false, true);
                crash::point(Point::LeftLast);
                return Ok(true);
            }
            // In one step with seeing the pin: whoever took it away in between would have counted on us
            // to be the last, and we on the pin.
            if snapshot.pinned && object.leave_pinned().await? {
                self.reference = false;
                crash::point(Point::LeftPinned);
                return Ok(false);
            }
            if snapshot.pinned || snapshot.clients > 1 || !snapshot.locked {
                // Somebody came or went between the two refusals.
                continue;
            }
            // Alone with somebody who has just the lock. Only then it is waited for: a leaver does not
            // wait for somebody's whole start.
            let patience = *patience.get_or_insert_with(|| self.config.patience());
            let client = self.permit.client();
            if let Err(late) = client.wait_unlocked(object, &snapshot, patience).await {
                object.drop_reference().await?;
                self.reference = false;
                crash::point(Point::ReferenceDroppedLate);
                return Err(Fault::Refused(late));
            }
        }
    }

    /// Under the lock, after a start that came to nothing: tells the clients that wait why, or removes what
    /// was told before if none waits any more.
    async fn leave_word(&mut self, object: &Arc<ObjectOf<W>>) -> Step<()> {
        // The supervisor sleeps for the lock, too. One that does not just now costs a waiter the reason, and
        // not more: to count it as a waiter would leave a note that nobody removes.
        let supervisor = u32::from(self.lock_shared);
        let waiting = object.sleepers().await?.saturating_sub(supervisor);
        let (platform, key) = (self.platform(), &self.permit.client().key);
        match self.failure.take() {
            Some(reason) if waiting > 0 => platform.add_failure(key, &reason).await,
            _ if waiting == 0 => platform.clear_failures(key).await,
            _ => {}
        }
        Ok(())
    }

    /// Under the lock, with others who hold references: an instance that nobody may use, because its
    /// start or its end was broken off, is not left running.
    async fn clear_unusable(&mut self, object: &Arc<ObjectOf<W>>) -> Step<Cleared> {
        let snapshot = object.snapshot().await?;
        let Some(instance) = snapshot.instance.filter(|instance| !instance.is_serving()) else {
            return Ok(Cleared::Done);
        };
        yield_once().await;
        match self.stop(object, instance, snapshot.generation).await {
            Ok(complaint) => {
                self.wait_gone().await?;
                object
                    .publish(None, snapshot.generation, Lock::Keep)
                    .await?;
                crash::point(Point::SettledNone);
                // The others hold a service that has a name. The last of them removes the record.
                self.platform().keep_name(&self.permit.client().key).await;
                crash::point(Point::SettledRecordRemoved);
                Ok(complaint.map_or(Cleared::Done, Cleared::CallbackFailed))
            }
            Err(Fault::Refused(error)) => Ok(Cleared::NotStopped(error)),
            Err(Fault::Removed) => Err(Fault::Removed),
        }
    }

    /// Under the lock, with nobody left.
    async fn stop_last(&mut self, object: &Arc<ObjectOf<W>>) -> Step<Option<Error>> {
        let snapshot = object.snapshot().await?;
        crash::point(Point::LookedAsLast);
        let left = if snapshot.pinned {
            object.unlock().await?;
            true
        } else {
            // In one step with seeing that it lives: it may be one that has come late, when its starter was
            // dead and the lock ours. Such a one goes without a look at a set that somebody has locked.
            snapshot.is_left_to_supervisor() && object.unlock_to_supervisor().await?
        };
        if left {
            crash::point(Point::UnlockedLast);
            return Ok(None);
        }
        let mut complaint = None;
        if let Some(instance) = snapshot.instance {
            yield_once().await;
            match self.stop(object, instance, snapshot.generation).await {
                Ok(stopped) => complaint = stopped,
                Err(Fault::Refused(error)) => {
                    // No crash point, as above.
                    object.unlock().await?;
                    return Ok(Some(error));
                }
                Err(Fault::Removed) => return Err(Fault::Removed),
            }
        }
        crash::point(Point::ServiceEnded);
        // In this order: a death after the first leaves a blank set and a record of a dead process, one
        // after the second a blank set, and neither misleads anybody. Removed first, the set's
        // successor could have a new instance whose record would then be unlinked.
        object
            .publish(None, snapshot.generation, Lock::Keep)
            .await?;
        crash::point(Point::PublishedNone);
        self.platform()
            .remove_record(&self.permit.client().key)
            .await;
        crash::point(Point::RecordRemoved);
        object.remove().await?;
        crash::point(Point::SetRemoved);
        self.forget();
        Ok(complaint)
    }
}

/// What became of an instance that nobody may use.
enum Cleared {
    /// There was none, or it is gone.
    Done,
    /// It is gone, but the callback failed.
    CallbackFailed(Error),
    /// It could not be stopped.
    NotStopped(Error),
}

impl Cleared {
    fn complaint(self) -> Option<Error> {
        match self {
            Self::Done => None,
            Self::CallbackFailed(error) | Self::NotStopped(error) => Some(error),
        }
    }
}

/// Giving back as a future that is finished by a thread if it is dropped halfway.
pub(crate) struct Departure<W: Platform> {
    client: Arc<Client<W>>,
    future: Option<BoxFuture<Result<()>>>,
}

impl<W: Platform> Departure<W> {
    pub(crate) fn new(hold: Hold<W>) -> Self {
        Self {
            client: Arc::clone(hold.permit.client()),
            future: Some(Box::pin(hold.give_back())),
        }
    }

    /// Goes as far as it gets without waiting or calling anybody back. The rest is done by a thread,
    /// for which this one waits for `patience` at most.
    pub(crate) fn finish_here(mut self, patience: Duration) {
        if let Some(done) = self.finish_elsewhere() {
            self.client.platform.wait_here(&done, patience);
        }
    }

    /// This runs in `drop`, which does not panic, and in a thread that unwinds, where a second panic would abort the
    /// program. So no subscriber hears of it there, and a panic ends here: it was reported when it was raised.
    fn finish_elsewhere(&mut self) -> Option<mpsc::Receiver<()>> {
        let future = self.future.take()?;
        if !self.client.is_ours() {
            // A forked child owns nothing of its parent's.
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
            // Nobody waits any more: fine.
            let _ = done.send(());
        });
        self.client.platform.spawn("stop the service", rest);
        Some(receiver)
    }
}

impl<W: Platform> Future for Departure<W> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        // Taken out while it is polled. If it panics, it is not there to be polled a second time when this is dropped.
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

impl<W: Platform> Drop for Departure<W> {
    fn drop(&mut self) {
        self.finish_elsewhere();
    }
}

fn log(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "could not give back a service cleanly");
    }
}
