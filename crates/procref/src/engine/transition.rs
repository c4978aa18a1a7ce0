//! A change of the service by this process: a start, a stop, a recovery, a join or a leave.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::client::{Client, LastHandle, Permit};
use super::config::Config;
use super::handle::HandleInner;
use super::platform::{Caller, ObjectOf, Platform};
use super::resolved_instance::ResolvedInstance;
use crate::crash::{self, Point};
use crate::error::Result;
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Instance, Lock, Missing, Object, Step, Supervised};
use crate::runtime::{BoxFuture, poll_once};

/// The right of one future to change the service, with everything that the future holds: the client's permit, the
/// reference in the kernel, and the transition lock.
///
/// Only the methods in this file take or release the reference and the lock. Each method takes one step on
/// the kernel object, records its effect and passes its crash point. So no caller can forget one of the
/// three.
///
/// Dropping a transition releases what it holds (see `release.rs`), so a cancelled or panicking caller leaves no lock
/// and no reference behind.
///
/// Further `impl` blocks, one verb a file:
///
/// | file | what it does |
/// |---|---|
/// | `acquire.rs` | joins, adopts or replaces the instance |
/// | `start.rs` | starts or recovers an instance by callback, and publishes it |
/// | `start_command.rs` | starts an instance that procref executes |
/// | `stop.rs` | stops an instance: stopped means dead |
/// | `stop_service.rs` | stops the service on demand |
/// | `pin.rs` | removes the pin |
/// | `release.rs` | releases everything, and stops the service if no other process uses it |
pub(crate) struct Transition<W: Platform> {
    /// `None` once the transition has ended, or a release has taken it over.
    permit: Option<Permit<W>>,
    pub(super) config: Arc<Config>,
    pub(super) caller: Caller,
    /// The kernel object. It is `Some` if `reference` or `lock` is `true`.
    object: Option<Arc<ObjectOf<W>>>,
    /// `true` if the process holds a reference in the kernel.
    reference: bool,
    /// `true` if the process holds the transition lock.
    lock: bool,
    /// `true` if a release owns this transition, so that dropping it does not begin another release.
    releasing: bool,
    /// The launch of a service. A cancelled start must not drop it, because the launch continues, and the
    /// release must stop its result. The mutex is never locked. It only makes the future `Sync`.
    pub(super) launching: Option<Mutex<BoxFuture<Result<W::StartingService>>>>,
    /// A service that was launched and is not ready yet.
    pub(super) starting: Option<Arc<W::StartingService>>,
    /// `true` if a launched supervisor shares the lock.
    pub(super) lock_shared: bool,
    /// The reason why the start by this client failed.
    pub(super) failure: Option<String>,
    /// `true` if that reason was written to the note of failed starts.
    pub(super) failure_noted: bool,
    /// An instance that a callback of this client has returned and that does not serve yet. If the object is
    /// removed from outside, no other process can find the instance, so this client stops it.
    pub(super) unpublished: Option<(Instance, ServiceInfo)>,
}

impl<W: Platform> Transition<W> {
    /// Begins with the permit, and with the process's reference if there is one.
    pub(crate) fn begin(permit: Permit<W>, config: &Arc<Config>) -> Self {
        let reference = permit.is_referenced();
        Self::new(permit, config, reference, false)
    }

    /// Begins with the reference of the last handle, which was dropped.
    pub(super) fn of_last_handle(permit: Permit<W>, config: &Arc<Config>) -> Self {
        Self::new(permit, config, true, false)
    }

    /// Begins with the lock, which the caller holds already.
    pub(crate) fn locked(permit: Permit<W>, config: &Arc<Config>) -> Self {
        let reference = permit.is_referenced();
        Self::new(permit, config, reference, true)
    }

    fn new(permit: Permit<W>, config: &Arc<Config>, reference: bool, lock: bool) -> Self {
        Self {
            permit: Some(permit),
            config: Arc::clone(config),
            caller: Caller::Task,
            object: None,
            reference,
            lock,
            releasing: false,
            launching: None,
            starting: None,
            lock_shared: false,
            failure: None,
            failure_noted: false,
            unpublished: None,
        }
    }

    /// Sets the code that waits for this transition.
    pub(super) fn called_by(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// Ends the transition without a release.
    pub(crate) fn into_permit(mut self) -> Permit<W> {
        self.permit.take().expect(PRESENT)
    }

    /// Moves everything into a transition that a release owns. Returns `None` if there is nothing to release, or a
    /// release owns this transition already.
    pub(super) fn take_for_release(&mut self) -> Option<Self> {
        if self.releasing || !(self.reference || self.lock) {
            return None;
        }
        Some(Self {
            permit: Some(self.permit.take()?),
            config: Arc::clone(&self.config),
            // A release may continue on another thread than that of the caller.
            caller: Caller::Task,
            object: self.object.take(),
            reference: self.reference,
            lock: self.lock,
            releasing: true,
            launching: self.launching.take(),
            starting: self.starting.take(),
            lock_shared: self.lock_shared,
            failure: self.failure.take(),
            failure_noted: self.failure_noted,
            unpublished: self.unpublished.take(),
        })
    }

    pub(super) fn permit(&self) -> &Permit<W> {
        self.permit.as_ref().expect(PRESENT)
    }

    pub(super) fn permit_mut(&mut self) -> &mut Permit<W> {
        self.permit.as_mut().expect(PRESENT)
    }

    pub(super) fn client(&self) -> &Arc<Client<W>> {
        self.permit().client()
    }

    pub(super) fn platform(&self) -> W {
        self.client().platform.clone()
    }

    /// The service's name.
    pub(super) fn service(&self) -> &str {
        self.client().key.name()
    }

    /// Returns `true` if the process holds a reference.
    pub(super) fn has_reference(&self) -> bool {
        self.reference
    }

    /// Returns `true` if the process holds the transition lock.
    pub(super) fn has_lock(&self) -> bool {
        self.lock
    }

    /// Returns the kernel object, opened if necessary, or `None` if it does not exist and is not created.
    pub(crate) async fn object(&mut self, missing: Missing) -> Result<Option<Arc<ObjectOf<W>>>> {
        if self.object.is_none() {
            self.object = self.client().object(missing).await?;
        }
        Ok(self.object.clone())
    }

    fn opened(&self) -> Step<Arc<ObjectOf<W>>> {
        self.object.clone().ok_or(Fault::Removed)
    }

    /// Records that the object was removed, together with the reference and the lock.
    pub(super) fn forget(&mut self) {
        self.permit().forget_object();
        self.object = None;
        self.reference = false;
        self.lock = false;
    }
}

/// The steps on the kernel object that take or release the reference or the lock.
///
/// A step that returns `false` was refused and changed nothing.
impl<W: Platform> Transition<W> {
    pub(super) async fn join(&mut self, supervised: Supervised, point: Point) -> Step<bool> {
        let object = self.opened()?;
        self.client().platform.note_join(point);
        let joined = object.join(supervised).await?;
        if joined {
            self.reference = true;
            crash::point(point);
        }
        Ok(joined)
    }

    pub(super) async fn try_enter(&mut self, point: Point) -> Step<bool> {
        let entered = self.opened()?.try_enter().await?;
        if entered {
            (self.reference, self.lock) = (true, true);
            crash::point(point);
        }
        Ok(entered)
    }

    pub(crate) async fn try_lock(&mut self, point: Point) -> Step<bool> {
        let locked = self.opened()?.try_lock().await?;
        if locked {
            self.lock = true;
            crash::point(point);
        }
        Ok(locked)
    }

    /// Releases the lock. `None` is for an unlock after which no test can make the process die.
    pub(crate) async fn unlock(&mut self, point: Option<Point>) -> Step<()> {
        self.opened()?.unlock().await?;
        self.lock = false;
        point.into_iter().for_each(crash::point);
        Ok(())
    }

    pub(super) async fn unlock_to_supervisor(&mut self, point: Point) -> Step<bool> {
        let unlocked = self.opened()?.unlock_to_supervisor().await?;
        if unlocked {
            self.lock = false;
            crash::point(point);
        }
        Ok(unlocked)
    }

    /// Publishes an instance that is ready, and releases the lock with the same step.
    pub(super) async fn publish_and_unlock(
        &mut self,
        ready: &Instance,
        generation: u16,
        point: Point,
    ) -> Step<()> {
        let object = self.opened()?;
        object
            .publish(Some(ready), generation, Lock::Release)
            .await?;
        self.lock = false;
        crash::point(point);
        Ok(())
    }

    pub(super) async fn leave(&mut self, point: Point) -> Step<bool> {
        let left = self.opened()?.leave().await?;
        if left {
            self.reference = false;
            crash::point(point);
        }
        Ok(left)
    }

    pub(super) async fn leave_to_supervisor(&mut self, point: Point) -> Step<bool> {
        let left = self.opened()?.leave_to_supervisor().await?;
        if left {
            self.reference = false;
            crash::point(point);
        }
        Ok(left)
    }

    pub(super) async fn leave_pinned(&mut self, point: Point) -> Step<bool> {
        let left = self.opened()?.leave_pinned().await?;
        if left {
            self.reference = false;
            crash::point(point);
        }
        Ok(left)
    }

    /// Releases the last reference and takes the lock.
    pub(super) async fn leave_last(&mut self, point: Point) -> Step<bool> {
        let left = self.opened()?.leave_last().await?;
        if left {
            (self.reference, self.lock) = (false, true);
            crash::point(point);
        }
        Ok(left)
    }

    /// Releases reference and lock, if another process holds a reference.
    pub(super) async fn abandon(&mut self, point: Point) -> Step<bool> {
        let abandoned = self.opened()?.abandon().await?;
        if abandoned {
            (self.reference, self.lock) = (false, false);
            crash::point(point);
        }
        Ok(abandoned)
    }

    pub(super) async fn drop_reference(&mut self, point: Point) -> Step<()> {
        self.opened()?.drop_reference().await?;
        self.reference = false;
        crash::point(point);
        Ok(())
    }

    /// Removes the object, and the lock with it.
    pub(super) async fn remove(&mut self, point: Point) -> Step<()> {
        self.opened()?.remove().await?;
        crash::point(point);
        self.forget();
        Ok(())
    }
}

/// A client that joins the instance that it knows. It has the permit and, after its step, the reference.
///
/// This is what a [`Transition`] begins with. It costs less, because most clients need nothing more.
pub(super) struct Rejoining<'a, W: Platform> {
    /// `None` once another value has taken it over.
    permit: Option<Permit<W>>,
    object: Arc<ObjectOf<W>>,
    config: &'a Arc<Config>,
    joined: bool,
}

impl<'a, W: Platform> Rejoining<'a, W> {
    pub(super) fn new(
        permit: Permit<W>,
        object: Arc<ObjectOf<W>>,
        config: &'a Arc<Config>,
    ) -> Self {
        Self {
            permit: Some(permit),
            object,
            config,
            joined: false,
        }
    }

    /// Joins, if the object still has the instance. A step that returns `false` was refused and changed nothing.
    pub(super) async fn join(
        &mut self,
        known: &ResolvedInstance<W>,
        supervised: Supervised,
        point: Point,
    ) -> Step<bool> {
        let (instance, generation) = (&known.instance, known.generation);
        if let Some(permit) = &self.permit {
            permit.client().platform.note_join(point);
        }
        let joining = self
            .object
            .rejoin(instance, generation, supervised, &known.rejoin);
        self.joined = joining.await?;
        if self.joined {
            crash::point(point);
        }
        Ok(self.joined)
    }

    /// Turns the permit and the reference into a handle.
    pub(super) fn finish(mut self, known: Arc<ResolvedInstance<W>>) -> HandleInner<W> {
        let permit = self.permit.take().expect(PRESENT);
        let handle = HandleInner::new(permit.client(), self.config, known);
        permit.finish_known();
        handle
    }

    pub(super) fn into_transition(mut self) -> Transition<W> {
        let permit = self.permit.take().expect(PRESENT);
        Transition::new(permit, self.config, self.joined, false)
    }
}

impl<W: Platform> Drop for Rejoining<'_, W> {
    /// Releases the reference, if the step has taken it.
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take().filter(|_| self.joined) {
            drop(Transition::new(permit, self.config, true, false));
        }
    }
}

/// Releases the reference of the last handle if one step is enough, because other processes hold a reference, too, or a
/// supervisor stops the service. This is the common case. It needs no future that could outlive its caller.
pub(super) fn try_leave<W: Platform>(dropped: &LastHandle<W>) -> bool {
    let (Some(object), Some(to_supervisor)) = (&dropped.object, dropped.command) else {
        return false;
    };
    let (left, point) = match to_supervisor {
        true => (
            poll_once(object.leave_to_supervisor()),
            Point::LeftToSupervisor,
        ),
        false => (poll_once(object.leave()), Point::Left),
    };
    let left = matches!(left, Poll::Ready(Ok(true)));
    if left {
        crash::point(point);
    }
    left
}

const PRESENT: &str = "the permit is taken only when the transition ends";
