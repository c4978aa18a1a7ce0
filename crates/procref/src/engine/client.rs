//! One process's state of one service: its kernel reference, its handles, and the permit to change them.
//!
//! A process may have any number of handles, and any number of [`SharedService`](crate::SharedService) values
//! with one name. It holds one reference in the kernel for all of them, and the client counts the handles.
//! One future at a time may change the reference or the instance: the future that has the [`Permit`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::platform::{Blocker, ObjectOf, Platform};
use super::resolved_instance::ResolvedInstance;
use super::shared_wait::SharedWait;
use super::unhealthy::Unhealthy;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Missing};
use crate::key::ServiceKey;
use crate::runtime;
use crate::runtime::wakers::Wakers;

/// One process's state of one service.
///
/// The methods that wait for other processes are in `wait_unlocked.rs`.
pub(crate) struct Client<W: Platform> {
    pub(crate) platform: W,
    pub(crate) key: ServiceKey,
    /// The process that this client belongs to. A forked child must not touch any field, including the mutex.
    /// At the fork, a thread that does not exist in the child may have held the mutex.
    epoch: u64,
    state: Mutex<State<W>>,
    /// The time at which a rejoin has checked the size of the log.
    log_checked: Mutex<Option<Instant>>,
    /// Number of acquires that may wait for starts of other processes.
    waiting: AtomicUsize,
    /// The thread that waits until the lock is free.
    pub(super) unlock: SharedWait,
    /// The thread that waits until the object is removed.
    pub(crate) removal: SharedWait,
    /// The thread that waits until a process starts the service.
    pub(crate) readiness: SharedWait,
}

struct State<W: Platform> {
    /// Number of handles, plus one while a counted permit exists.
    handles: usize,
    /// `true` if this process holds a reference in the kernel, to the instance `current`.
    referenced: bool,
    /// The instance that was resolved last, from `object`. The client keeps it after the release, because the next
    /// acquire usually finds the same instance and can skip the search for its process.
    current: Option<Arc<ResolvedInstance<W>>>,
    /// The kernel object. It stays open for the same reason.
    object: Option<Arc<ObjectOf<W>>>,
    permit_taken: bool,
    /// The futures that wait for the permit.
    wakers: Wakers,
}

/// Interval at which a client that joins an instance again and again checks the size of the log. It is also the longest
/// interval of the supervisor.
const LOG_CHECKS: Duration = Duration::from_secs(1);

impl<W: Platform> State<W> {
    fn release_permit(&mut self) -> Vec<Waker> {
        self.permit_taken = false;
        self.wakers.take()
    }

    fn shareable(&self) -> Option<Arc<ResolvedInstance<W>>> {
        self.current.clone().filter(|_| self.referenced)
    }
}

/// A future's access to the service within its process.
pub(crate) enum Access<W: Platform> {
    /// One more handle on the reference that the process holds already.
    Shared(Arc<ResolvedInstance<W>>),
    Exclusive(Permit<W>),
}

/// The result of dropping a handle.
pub(crate) enum Dropped<W: Platform> {
    /// Other handles of this process remain, or the process holds no reference.
    NotLast,
    /// It was the last handle. The caller must release the reference.
    Last(LastHandle<W>),
}

/// The reference of the last handle, which was dropped.
pub(crate) struct LastHandle<W: Platform> {
    pub(crate) permit: Permit<W>,
    pub(super) object: Option<Arc<ObjectOf<W>>>,
    /// `true` if procref executed the program of the instance. `None` if no instance is known.
    pub(super) command: Option<bool>,
}

/// What a client can do without waiting.
pub(super) enum Shortcut<W: Platform> {
    /// One more handle on the reference that the process holds already.
    Shared(Arc<ResolvedInstance<W>>),
    /// Join an instance that the client knows.
    Rejoin {
        permit: Permit<W>,
        known: Arc<ResolvedInstance<W>>,
        object: Arc<ObjectOf<W>>,
    },
    None,
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
            log_checked: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            unlock: SharedWait::default(),
            removal: SharedWait::default(),
            readiness: SharedWait::default(),
        }
    }

    /// Returns `true` if this process made the client. Returns `false` in a forked child.
    pub(crate) fn is_ours(&self) -> bool {
        self.platform.epoch() == self.epoch
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        // No foreign code runs while the mutex is locked, so the state is consistent even if the mutex is
        // poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subtracts one from the number of handles.
    pub(crate) fn drop_handle(self: &Arc<Self>) -> Dropped<W> {
        let mut state = self.state();
        state.handles -= 1;
        // The permit counts as a handle, so after the last handle the permit is free. Handles without a
        // reference exist only after the object was removed from outside.
        if state.handles > 0 || !state.referenced {
            return Dropped::NotLast;
        }
        state.referenced = false;
        state.permit_taken = true;
        Dropped::Last(LastHandle {
            permit: Permit {
                client: Arc::clone(self),
                counted: false,
                released: false,
            },
            object: state.object.clone(),
            command: state.current.as_ref().map(|it| it.instance.command),
        })
    }

    /// Counts one more handle if the process holds a reference, or takes the permit. Waits until one of these is
    /// possible. A reference to the rejected instance is not shared.
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

    /// Takes the permit. Waits while another future has it.
    pub(crate) async fn permit(self: &Arc<Self>) -> Permit<W> {
        self.when_free(|state| self.take_permit(state)).await
    }

    /// Takes the permit, unless another future has it.
    pub(crate) fn try_permit(self: &Arc<Self>) -> Option<Permit<W>> {
        self.take_permit(&mut self.state())
    }

    /// Counts one more handle if the process holds a reference. If not, takes the permit if it is free and this client
    /// knows an instance that it can join.
    pub(super) fn shortcut(self: &Arc<Self>) -> Shortcut<W> {
        let mut state = self.state();
        let Some(known) = state.current.clone() else {
            return Shortcut::None;
        };
        if state.referenced {
            state.handles += 1;
            return Shortcut::Shared(known);
        }
        let Some(object) = state.object.clone() else {
            return Shortcut::None;
        };
        match self.take_permit(&mut state) {
            Some(permit) => Shortcut::Rejoin {
                permit,
                known,
                object,
            },
            None => Shortcut::None,
        }
    }

    /// Returns `true` at most once in [`LOG_CHECKS`].
    pub(super) fn is_log_check_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self
            .log_checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.duration_since(last) >= LOG_CHECKS);
        if due {
            *last = Some(now);
        }
        due
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
            released: false,
        })
    }

    /// Calls `attempt` immediately, and again each time the permit is released, until it succeeds. A release
    /// wakes all waiting futures together, because most of them then share the instance that the first one
    /// has resolved.
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

    /// Returns the instance that was resolved last.
    pub(crate) fn known(&self) -> Option<Arc<ResolvedInstance<W>>> {
        self.state().current.clone()
    }

    /// Returns the kernel object, if it is open.
    pub(crate) fn known_object(&self) -> Option<Arc<ObjectOf<W>>> {
        self.state().object.clone()
    }

    /// Returns the kernel object, opened if necessary.
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

    /// Returns `true` if an acquire call of this process may be waiting.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Returns the error of an operation that took longer than its limit.
    pub(super) fn timeout_error(
        &self,
        operation: &'static str,
        limit: Duration,
        blocker: Option<Blocker>,
    ) -> Error {
        Error::Timeout {
            service: self.key.name().to_owned(),
            operation,
            limit,
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

/// The right to change this process's reference. Dropping the permit releases it.
pub(crate) struct Permit<W: Platform> {
    client: Arc<Client<W>>,
    /// The permit counts as a handle.
    counted: bool,
    released: bool,
}

impl<W: Platform> Permit<W> {
    pub(crate) fn client(&self) -> &Arc<Client<W>> {
        &self.client
    }

    /// Returns `true` if this process holds a reference.
    pub(crate) fn is_referenced(&self) -> bool {
        self.client.state().referenced
    }

    /// Returns the instance that was resolved last.
    pub(crate) fn known(&self) -> Option<Arc<ResolvedInstance<W>>> {
        self.client.known()
    }

    /// Returns `true` if this process has handles in addition to the permit.
    pub(crate) fn has_other_handles(&self) -> bool {
        self.client.state().handles > usize::from(self.counted)
    }

    /// Records that the object and the reference were removed.
    ///
    /// The instance is forgotten, too. The generations of a new object start at 1 again, and a callback may return the
    /// same process again. So an instance of the new object may be equal to that of the old one, but have another port
    /// or other metadata.
    pub(crate) fn forget_object(&self) {
        let forgotten = {
            let mut state = self.client.state();
            state.object = None;
            state.referenced = false;
            state.current.take()
        };
        // The values are dropped without the lock.
        drop(forgotten);
    }

    /// Turns the permit into a handle on `current`.
    pub(crate) fn finish(self, current: Arc<ResolvedInstance<W>>) {
        self.client.state().current = Some(current);
        self.finish_known();
    }

    /// Turns the permit into a handle on the instance that was resolved last.
    pub(super) fn finish_known(mut self) {
        let wakers = {
            let mut state = self.client.state();
            state.referenced = true;
            // The count for the permit becomes the count for the handle.
            self.counted = false;
            self.released = true;
            state.release_permit()
        };
        wakers.into_iter().for_each(runtime::wake);
    }

    /// Takes the reference from the client, if this process has no other handle. Returns `true` if so: the caller must
    /// release the reference, and no other future shares it any more.
    ///
    /// The check and the change happen with the mutex locked. Otherwise, a handle could be made between the
    /// two, and would have no reference. Or the last handle could be dropped between the two, and the
    /// reference would have no handle.
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

    /// Releases the permit, if other handles remain. They keep the reference. Returns `true` if so.
    pub(crate) fn yield_to_handles(&mut self) -> bool {
        let wakers = {
            let mut state = self.client.state();
            if state.handles == usize::from(self.counted) {
                return false;
            }
            if std::mem::take(&mut self.counted) {
                state.handles -= 1;
            }
            self.released = true;
            state.release_permit()
        };
        wakers.into_iter().for_each(runtime::wake);
        true
    }
}

impl<W: Platform> Drop for Permit<W> {
    fn drop(&mut self) {
        if self.released || !self.client.is_ours() {
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
