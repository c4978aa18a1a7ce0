//! A process's seat at a service: its one kernel reference, its handles, and whose turn it is.
//!
//! However many handles and [`SharedService`](crate::SharedService) values of a name a process has,
//! it holds one reference in the kernel; here its handles are counted. Whatever changes the
//! reference or the instance is done by one future at a time, the one that has the [`Permit`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::platform::{ObjectOf, Platform};
use super::resolved_instance::ResolvedInstance;
use super::shared_wait::SharedWait;
use super::unhealthy::Unhealthy;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Missing, Object, Snapshot};
use crate::key::ServiceKey;
use crate::launch::own_start::own_start;
use crate::runtime;
use crate::runtime::deadline::{Deadline, Patience};
use crate::runtime::wakers::Wakers;

pub(crate) struct Client<W: Platform> {
    pub(crate) platform: W,
    pub(crate) key: ServiceKey,
    /// The process it belongs to. In a forked child nothing here may be touched, the mutex included:
    /// a thread that does not exist in the child may have held it.
    epoch: u64,
    state: Mutex<State<W>>,
    /// How many acquires may come to wait for others' starts.
    waiting: AtomicUsize,
    /// The one thread that waits for the lock to be free.
    unlock: SharedWait,
    /// The one thread that waits for the object to be removed.
    pub(crate) removal: SharedWait,
    /// The one thread that waits for somebody to start the service.
    pub(crate) arrival: SharedWait,
}

struct State<W: Platform> {
    /// Handles, and whoever has the turn for one to come.
    handles: usize,
    /// This process has its reference in the kernel, and `current` is what it is to.
    referenced: bool,
    /// The instance seen last. Kept without a reference, too: mostly it is still the same the next
    /// time, and then its process need not be looked up again.
    current: Option<Arc<ResolvedInstance<W>>>,
    /// The kernel object, kept open likewise.
    object: Option<Arc<ObjectOf<W>>>,
    /// The permit exists.
    permit_taken: bool,
    /// The futures that wait for the permit.
    wakers: Wakers,
}

impl<W: Platform> State<W> {
    fn release_permit(&mut self) -> Vec<Waker> {
        self.permit_taken = false;
        self.wakers.take()
    }

    fn shareable(&self) -> Option<Arc<ResolvedInstance<W>>> {
        self.current.clone().filter(|_| self.referenced)
    }
}

/// What a future that wants the service gets within its process.
pub(crate) enum Access<W: Platform> {
    Shared(Arc<ResolvedInstance<W>>),
    Exclusive(Permit<W>),
}

/// What is left to do when a handle was put down.
pub(crate) enum Dropped<W: Platform> {
    /// Other handles of this process remain, or there is no reference to give back.
    NotLast,
    /// It was the last one: the reference is to be given back.
    Last(Permit<W>),
}

impl<W: Platform> Client<W> {
    pub(crate) fn new(platform: W, key: ServiceKey) -> Self {
        Self {
            epoch: platform.epoch(),
            platform,
            key,
            state: Mutex::new(State {
                handles: 0,
                referenced: false,
                current: None,
                object: None,
                permit_taken: false,
                wakers: Wakers::default(),
            }),
            waiting: AtomicUsize::new(0),
            unlock: SharedWait::default(),
            removal: SharedWait::default(),
            arrival: SharedWait::default(),
        }
    }

    /// Whether this process made it. False in a forked child.
    pub(crate) fn is_ours(&self) -> bool {
        self.platform.epoch() == self.epoch
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        // No code of a user's runs while it is locked, so a panic elsewhere left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more handle on the reference that this process has already.
    pub(crate) fn share(&self) -> Option<Arc<ResolvedInstance<W>>> {
        let mut state = self.state();
        let current = state.shareable()?;
        state.handles += 1;
        Some(current)
    }

    /// One handle less.
    pub(crate) fn drop_handle(self: &Arc<Self>) -> Dropped<W> {
        let mut state = self.state();
        state.handles -= 1;
        // Whoever has the turn is counted, so with the last handle the turn is free. Only a reference
        // that went with a removed object leaves handles without one.
        if state.handles > 0 || !state.referenced {
            return Dropped::NotLast;
        }
        state.referenced = false;
        state.permit_taken = true;
        Dropped::Last(Permit {
            client: Arc::clone(self),
            counted: false,
            given_back: false,
        })
    }

    /// One more handle on the reference that this process has, or the turn to change that; waits while
    /// neither is to be had. The instance that was found unhealthy is not good enough.
    pub(crate) async fn access(self: &Arc<Self>, rejected: Option<Unhealthy>) -> Access<W> {
        self.when_free(|state| {
            let is_rejected = |it: &ResolvedInstance<W>| rejected == Some(Unhealthy::of(it));
            if let Some(current) = state.shareable().filter(|it| !is_rejected(it)) {
                state.handles += 1;
                return Some(Access::Shared(current));
            }
            self.take_permit(state).map(Access::Exclusive)
        })
        .await
    }

    /// The turn; waits while somebody has it.
    pub(crate) async fn permit(self: &Arc<Self>) -> Permit<W> {
        self.when_free(|state| self.take_permit(state)).await
    }

    /// Tries at once, and again each time the permit is released, until `attempt` succeeds. All waiting futures are
    /// woken together: most of them then share the instance that the first one has resolved.
    async fn when_free<T>(&self, mut attempt: impl FnMut(&mut State<W>) -> Option<T>) -> T {
        let mut waiter = Waiter {
            client: self,
            number: None,
        };
        std::future::poll_fn(|context| {
            // Cloning and dropping a waker may run foreign code, so both happen without the lock.
            let waker = context.waker().clone();
            let mut state = self.state();
            if let Some(output) = attempt(&mut state) {
                drop(state);
                drop(waker);
                return Poll::Ready(output);
            }
            let number = *waiter.number.get_or_insert_with(|| state.wakers.register());
            let replaced = state.wakers.insert(number, waker);
            drop(state);
            drop(replaced);
            Poll::Pending
        })
        .await
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit<W>> {
        self.take_permit(&mut self.state())
    }

    fn take_permit(self: &Arc<Self>, state: &mut State<W>) -> Option<Permit<W>> {
        if state.permit_taken {
            return None;
        }
        state.permit_taken = true;
        state.handles += 1;
        Some(Permit {
            client: Arc::clone(self),
            counted: true,
            given_back: false,
        })
    }

    /// The instance seen last.
    pub(crate) fn known(&self) -> Option<Arc<ResolvedInstance<W>>> {
        self.state().current.clone()
    }

    /// The kernel object, if it is open.
    pub(crate) fn known_object(&self) -> Option<Arc<ObjectOf<W>>> {
        self.state().object.clone()
    }

    /// The kernel object, opened if need be.
    pub(crate) async fn object(&self, missing: Missing) -> Result<Option<Arc<ObjectOf<W>>>> {
        let known = self.known_object();
        if known.is_some() {
            return Ok(known);
        }
        let opened = self.platform.kernel().open(&self.key, missing).await?;
        let opened = opened.map(Arc::new);
        self.state().object.clone_from(&opened);
        Ok(opened)
    }

    pub(crate) fn begin_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_waiting(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until no process holds the transition lock, as long as the client's patience lasts.
    /// `seen` is what was read last.
    ///
    /// When the time is up, the limit is read again. The process that holds the lock may have announced
    /// another one since: it takes the lock first and announces then, and it may have gone on from the start
    /// to the stop of an instance. A client that gave up without that would not wait for a slow start if it
    /// came right after the lock was taken.
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
                // The caller meets it there.
                Err(_) => return Ok(()),
            }
        }
    }

    /// Waits until no process holds the transition lock. Returns `false` if that takes until the deadline.
    ///
    /// The wait in the kernel blocks a thread and cannot be called off, so it is a thread of ours, one
    /// for all futures of this process. The thread waits for the lock to be *free* and takes nothing, so
    /// it has nothing to give back when nobody is waiting any more. Letting it queue for the lock itself
    /// would win the lock for futures that are gone.
    pub(crate) async fn is_unlocked_by(
        self: &Arc<Self>,
        object: &Arc<ObjectOf<W>>,
        deadline: Deadline,
    ) -> Result<bool> {
        // Keeps the seat, and with it the watch, for who comes later.
        let (kept, waited_on) = (Arc::clone(self), Arc::clone(object));
        let unlocked = async move {
            // Whatever it comes to, who wakes looks at the object again and meets it there.
            let _ = waited_on.wait_unlocked().await;
            if kept.waiting.load(Ordering::Relaxed) == 0 {
                // A starter that failed has seen this thread sleep, and left a note for whom it sleeps. They
                // have given up.
                kept.platform.abandon_failures(&kept.key);
            }
            drop(kept);
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

    /// What to say when somebody's transition takes too long.
    pub(crate) async fn lock_timeout_error(
        &self,
        object: &Arc<ObjectOf<W>>,
        deadline: Deadline,
    ) -> Error {
        let blocker = self.platform.blocker(object).await;
        Error::Timeout {
            service: self.key.name().to_owned(),
            operation: "waiting for another process to start or stop it",
            limit: deadline.limit(),
            holder: blocker.map(|it| it.pid),
            suspended: blocker.is_some_and(|it| it.suspended),
        }
    }
}

/// A future that waits for the permit.
struct Waiter<'a, W: Platform> {
    client: &'a Client<W>,
    number: Option<u64>,
}

impl<W: Platform> Drop for Waiter<'_, W> {
    fn drop(&mut self) {
        if let Some(number) = self.number.filter(|_| self.client.is_ours()) {
            let waker = self.client.state().wakers.remove(number);
            drop(waker);
        }
    }
}

/// The right to change this process's reference. Given back on drop.
pub(crate) struct Permit<W: Platform> {
    client: Arc<Client<W>>,
    /// It counts as a handle.
    counted: bool,
    given_back: bool,
}

impl<W: Platform> Permit<W> {
    pub(crate) fn client(&self) -> &Arc<Client<W>> {
        &self.client
    }

    /// Whether this process has its reference already.
    pub(crate) fn is_referenced(&self) -> bool {
        self.client.state().referenced
    }

    /// The instance seen last.
    pub(crate) fn known(&self) -> Option<Arc<ResolvedInstance<W>>> {
        self.client.known()
    }

    /// Whether others in this process have handles.
    pub(crate) fn has_other_handles(&self) -> bool {
        self.client.state().handles > usize::from(self.counted)
    }

    /// The object is gone, and with it the reference.
    pub(crate) fn forget_object(&self) {
        let mut state = self.client.state();
        state.object = None;
        state.referenced = false;
    }

    /// Done: from now on the reference is to `current`, and who had the turn has a handle.
    pub(crate) fn finish(mut self, current: Arc<ResolvedInstance<W>>) {
        let mut state = self.client.state();
        state.current = Some(current);
        state.referenced = true;
        // The handle is what it counted as.
        self.counted = false;
    }

    /// True if nobody else in this process has a handle: then the reference is the caller's to give
    /// back, and nobody shares it any more.
    ///
    /// Decided in one step with the count: a handle that came or went right after a mere look would
    /// be left without a reference, or the reference without a handle.
    pub(crate) fn take_if_last(&mut self) -> bool {
        let mut state = self.client.state();
        let alone = state.handles == usize::from(self.counted);
        if alone {
            self.counted = false;
            state.handles = 0;
            state.referenced = false;
        }
        alone
    }

    /// True if other handles remain: they keep the reference, and the turn is given back.
    pub(crate) fn yield_to_handles(&mut self) -> bool {
        let wakers = {
            let mut state = self.client.state();
            if state.handles == usize::from(self.counted) {
                return false;
            }
            if std::mem::take(&mut self.counted) {
                state.handles -= 1;
            }
            self.given_back = true;
            state.release_permit()
        };
        wakers.into_iter().for_each(runtime::wake);
        true
    }
}

impl<W: Platform> Drop for Permit<W> {
    fn drop(&mut self) {
        if self.given_back || !self.client.is_ours() {
            return;
        }
        let wakers = {
            let mut state = self.client.state();
            if self.counted {
                state.handles -= 1;
            }
            state.release_permit()
        };
        wakers.into_iter().for_each(runtime::wake);
    }
}

#[cfg(all(test, unix))]
mod tests;
