//! Acquiring: join, adopt, start or recover.
//!
//! ```text
//! acquire:  in this process already? -> count up, check health, done
//!           join -> snapshot, serving -> check health -> done
//!           join refused by the lock -> wait unlocked, again
//!           nobody to join -> enter (lock and reference together)
//! locked:   serving and alive, and not what we found unhealthy -> unlock, check health as a joiner
//!           dead / none, nobody else holds it -> start
//!           dead or unhealthy, others hold it -> recover
//!           start or recover fails -> give back, error
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::client::{Current, Deadline, ObjectOf, Place, PutDown, Seat};
use super::config::Config;
use super::fingerprint::is_usable;
use super::health::Seen;
use super::platform::{Description, World, describe_whole};
use super::recursion;
use super::release::{Departure, Hold};
use super::shared_wait::Watch;
use super::unhealthy::{Unhealthy, unjudged};
use super::waiting::Waiting;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{self, Fault, Instance, Kernel, Missing, Object, Snapshot, Step, Supervised};

/// What a handle keeps: one count of its process's reference.
pub(crate) struct Lease<W: World> {
    seat: Arc<Seat<W>>,
    config: Arc<Config>,
    current: Arc<Current<W>>,
    put_down: bool,
}

impl<W: World> Lease<W> {
    pub(crate) fn current(&self) -> &Current<W> {
        &self.current
    }

    pub(crate) fn shared(&self) -> &Arc<Current<W>> {
        &self.current
    }

    pub(crate) fn seat(&self) -> &Arc<Seat<W>> {
        &self.seat
    }

    /// An error in a forked child.
    pub(crate) fn check_ours(&self, operation: &'static str) -> Result<()> {
        if self.seat.is_ours() {
            return Ok(());
        }
        Err(Error::NoReference {
            service: self.seat.key.name().to_owned(),
            operation,
            reason: "this is a forked child, which owns no handle of its parent's",
        })
    }

    /// What to say when the kernel object is gone although there are handles.
    pub(crate) fn lost(&self, operation: &'static str) -> Error {
        Error::NoReference {
            service: self.seat.key.name().to_owned(),
            operation,
            reason: "somebody removed its kernel object, and every reference with it",
        }
    }

    /// For a handle that the seat has counted.
    pub(crate) fn new(seat: &Arc<Seat<W>>, config: &Arc<Config>, current: Arc<Current<W>>) -> Self {
        Self {
            seat: Arc::clone(seat),
            config: Arc::clone(config),
            current,
            put_down: false,
        }
    }

    /// Puts it down; what is left to do then, if it was this process's last.
    pub(crate) fn release(mut self) -> Option<Departure<W>> {
        self.put_down()
    }

    fn put_down(&mut self) -> Option<Departure<W>> {
        if std::mem::replace(&mut self.put_down, true) || !self.seat.is_ours() {
            return None;
        }
        match self.seat.put_down() {
            PutDown::Done => None,
            PutDown::Last(turn) => {
                let hold = Hold::last(turn, &self.config);
                (!hold.leave_quickly()).then(|| Departure::new(hold))
            }
        }
    }
}

impl<W: World> Drop for Lease<W> {
    fn drop(&mut self) {
        if let Some(departure) = self.put_down() {
            departure.finish_here(self.config.drop_patience());
        }
    }
}

pub(crate) async fn acquire<W: World>(
    seat: &Arc<Seat<W>>,
    config: &Arc<Config>,
    mut waiting: Waiting<W>,
) -> Result<Lease<W>> {
    recursion::check_callback(seat)?;
    let mut judged = None;
    let mut unhealthy = None;
    let turn = loop {
        match seat.place(judged).await {
            Place::Turn(turn) => break turn,
            Place::Shared(current) => {
                let lease = Lease::new(seat, config, current);
                if is_usable(seat, config, lease.current(), Seen::Before).await? {
                    waiting.finish();
                    return Ok(lease);
                }
                judged = Some(Unhealthy::of(lease.current()));
                // Kept until the turn is ours: others of this process may be about to let go.
                unhealthy = Some(lease);
            }
        }
    };
    let mut drive = Drive::new(Hold::begin(turn, config));
    drop(unhealthy);
    loop {
        match drive.attempt(&mut judged, &mut waiting).await {
            Ok(Some(current)) => {
                waiting.finish();
                drive.see_lock_free().await;
                return Ok(drive.finish(current));
            }
            Ok(None) => {}
            // The service was stopped, or its object removed from outside: a new one is opened, and
            // everything begins again on it. What was found unhealthy was of the old one. A service without
            // a local process has nothing else that tells its instances apart.
            Err(Fault::Removed) => {
                drive.forget();
                judged = None;
            }
            Err(Fault::Refused(error)) => {
                let failed = drive.lock && !matches!(error, Error::NoStart { .. });
                if failed {
                    drive.failure = Some(error.to_string());
                }
                let late = matches!(error, Error::Timeout { .. });
                drive.remove_blank().await;
                drive.give_back().await;
                if !failed && !late {
                    return Err(error);
                }
                let explained = waiting.explain(error);
                if failed {
                    // The note is for those who still wait.
                    waiting.finish();
                }
                return Err(explained);
            }
        }
    }
}

/// Joins what serves and is healthy, and is supervised where that is asked for; never starts, stops or
/// waits for anything.
pub(crate) async fn try_join<W: World>(
    seat: &Arc<Seat<W>>,
    config: &Arc<Config>,
    supervised: Supervised,
) -> Result<Option<Lease<W>>> {
    if let Some(current) = seat.share() {
        let lease = Lease::new(seat, config, current);
        let healthy = is_usable(seat, config, &lease.current, Seen::Before).await?;
        return Ok(healthy.then_some(lease));
    }
    let Some(turn) = seat.try_turn() else {
        return Ok(None);
    };
    let mut drive = Drive::new(Hold::begin(turn, config));
    loop {
        match drive.attempt_join(supervised).await {
            Ok(Some(current)) => return Ok(Some(drive.finish(current))),
            Ok(None) => {
                drive.give_back().await;
                return Ok(None);
            }
            Err(Fault::Removed) => drive.forget(),
            Err(Fault::Refused(error)) => {
                drive.give_back().await;
                return Err(error);
            }
        }
    }
}

/// A hold that is given back if its future is dropped: cancelled, or unwound by a callback's panic.
pub(crate) struct Drive<W: World>(pub(crate) Option<Hold<W>>);

impl<W: World> Deref for Drive<W> {
    type Target = Hold<W>;

    fn deref(&self) -> &Hold<W> {
        self.0.as_ref().expect("taken only when the drive ends")
    }
}

impl<W: World> DerefMut for Drive<W> {
    fn deref_mut(&mut self) -> &mut Hold<W> {
        self.0.as_mut().expect("taken only when the drive ends")
    }
}

impl<W: World> Drop for Drive<W> {
    fn drop(&mut self) {
        // The departure finishes on a thread when it is dropped, so an executor's thread is not
        // blocked here.
        drop(self.take().map(Departure::new));
    }
}

impl<W: World> Drive<W> {
    pub(crate) fn new(hold: Hold<W>) -> Self {
        Self(Some(hold))
    }

    pub(crate) fn take(&mut self) -> Option<Hold<W>> {
        self.0.take()
    }

    /// What was executed just now is ready, and its supervisor shares the lock until it has seen that. Who is
    /// told of the service by this client may come before that, and [`try_join`] waits for nobody who holds the
    /// lock: it would find no service. Whatever keeps the supervisor from letting go, the service is ready.
    /// The time for this is a start's, not what others have left of this client's time to wait for them.
    ///
    /// From here on this is a client like any other: cancelled, it leaves, and does not clear up a start.
    async fn see_lock_free(&mut self) {
        if self.running.take().is_none() || !W::Kernel::NEEDS_SUPERVISOR {
            return;
        }
        self.lock = false;
        if let Some(object) = self.turn.seat().known_object() {
            let deadline = Deadline::after(self.config.start_timeout);
            let _ = self.turn.seat().is_unlocked_by(&object, deadline).await;
        }
    }

    fn finish(mut self, current: Arc<Current<W>>) -> Lease<W> {
        let hold = self.take().expect("taken only when the drive ends");
        let lease = Lease::new(hold.turn.seat(), &hold.config, Arc::clone(&current));
        hold.turn.finish(current);
        lease
    }

    /// Removes the object if this client has created it, and the kernel has refused the first step on it.
    async fn remove_blank(&mut self) {
        if self.reference || self.lock {
            return;
        }
        if let Ok(Some(object)) = self.object(Missing::Ignore).await {
            kernel::remove_blank(&*object).await;
        }
    }

    pub(crate) async fn give_back(&mut self) {
        if let Some(hold) = self.take() {
            let service = hold.service().to_owned();
            if let Err(error) = Departure::new(hold).await {
                tracing::error!(service, %error, "could not give back cleanly after a failure");
            }
        }
    }

    /// One step towards a service. `None`: look again.
    async fn attempt(
        &mut self,
        judged: &mut Option<Unhealthy>,
        waiting: &mut Waiting<W>,
    ) -> Step<Option<Arc<Current<W>>>> {
        let object = self.object(Missing::Create).await?;
        let object = object.ok_or(Fault::Removed)?;
        if !self.reference {
            if object.join(self.asked(self.config.supervised())).await? {
                crash::point(Point::Joined);
                self.reference = true;
            } else {
                let snapshot = object.snapshot().await?;
                if snapshot.locked {
                    tracing::debug!(service = self.service(), "waiting for another process");
                    waiting.wait_unlocked(&object, &snapshot).await?;
                    return Ok(None);
                }
                let supervisor = W::Kernel::NEEDS_SUPERVISOR && self.is_watched(&snapshot);
                if snapshot.clients > 0 && supervisor {
                    // It can be joined by now, or needs no supervisor for that.
                    self.reference = !snapshot.supervised && object.join(Supervised::No).await?;
                    if self.reference {
                        crash::point(Point::JoinedUnsupervised);
                    }
                    return Ok(None);
                }
                self.look_before_entering(&snapshot, *judged).await?;
                if !object.try_enter().await? {
                    return Ok(None);
                }
                crash::point(Point::Entered);
                self.reference = true;
                self.lock = true;
            }
        }
        let snapshot = object.snapshot().await?;
        if self.lock {
            return self.under_lock(&object, snapshot, *judged).await;
        }
        // A client that keeps orphans has not asked for a supervisor. Whether there has to be one is for the
        // instance to say. If it is missing, it was killed: like who adopts it, start another.
        let asked = self.config.supervised() == Supervised::Yes;
        let watched = asked || self.is_watched(&snapshot);
        if let Some(instance) = unjudged(&snapshot, *judged).filter(|_| watched) {
            let (current, seen) = self.current(&snapshot, instance).await?;
            if is_usable(self.turn.seat(), &self.config, &current, seen).await? {
                let (service, generation) = (self.service(), current.generation);
                tracing::debug!(service, pid = current.info.pid(), generation, "joined");
                self.tend_log().await;
                return Ok(Some(current));
            }
            let (service, pid) = (self.service(), instance.identity.pid);
            tracing::info!(
                service,
                pid,
                generation = snapshot.generation,
                "found unhealthy"
            );
            *judged = Some(Unhealthy::new(snapshot.generation, &instance));
        }
        if object.try_lock().await? {
            crash::point(Point::Locked);
            self.lock = true;
        } else {
            waiting.wait_unlocked(&object, &snapshot).await?;
        }
        Ok(None)
    }

    /// What to ask for in a join, where there are supervisors at all.
    fn asked(&self, supervised: Supervised) -> Supervised {
        match W::Kernel::NEEDS_SUPERVISOR {
            true => supervised,
            false => Supervised::No,
        }
    }

    /// An instance that is kept although nobody uses it (pinned, warm, an orphan) stays as it is if it is
    /// not what this client wants. Found out after entering, it would be left by its last client, and
    /// stopped, or kept warm for longer.
    async fn look_before_entering(
        &self,
        snapshot: &Snapshot,
        judged: Option<Unhealthy>,
    ) -> Result<()> {
        let Some(instance) = unjudged(snapshot, judged) else {
            return Ok(());
        };
        if self.config.fingerprint.is_none() {
            return Ok(());
        }
        let (current, seen) = self.current(snapshot, instance).await?;
        if self.config.refuses(&current) {
            is_usable(self.turn.seat(), &self.config, &current, seen).await?;
        }
        Ok(())
    }

    async fn attempt_join(&mut self, supervised: Supervised) -> Step<Option<Arc<Current<W>>>> {
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Ok(None);
        };
        if !self.reference {
            if !object.join(self.asked(supervised)).await? {
                return Ok(None);
            }
            crash::point(Point::TryJoined);
            self.reference = true;
        }
        let snapshot = object.snapshot().await?;
        let Some(instance) = unjudged(&snapshot, None) else {
            return Ok(None);
        };
        let (current, seen) = self.current(&snapshot, instance).await?;
        if !is_usable(self.turn.seat(), &self.config, &current, seen).await? {
            return Ok(None);
        }
        self.tend_log().await;
        Ok(Some(current))
    }

    /// A client that joins limits the log, too. The supervisor that executed the service does it while the log
    /// grows, but it may have been killed, or the kernel may not report writes.
    async fn tend_log(&self) {
        if let Some(command) = &self.config.command {
            let seat = self.turn.seat();
            seat.world.tend_log(&seat.key, command).await;
        }
    }

    async fn under_lock(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
        judged: Option<Unhealthy>,
    ) -> Step<Option<Arc<Current<W>>>> {
        if let Some(instance) = unjudged(&snapshot, judged) {
            let (current, seen) = self.current(&snapshot, instance).await?;
            let alive = match &current.process {
                Some(process) => seen == Seen::Now || self.world().is_alive(process).await,
                None => instance.identity.pid == 0,
            };
            if alive {
                // Somebody was faster, or it was left by clients that died. Either way its health is
                // checked without the lock, as any joiner does it: checked here, the checks of a crowd
                // would run one after another.
                if snapshot.clients == 1 {
                    let (service, pid) = (self.service(), instance.identity.pid);
                    tracing::info!(service, pid, "adopted: it was left without a client");
                }
                if !self.is_watched(&snapshot) {
                    let stop = self.stop_of(&instance).await;
                    self.supervise(object, stop).await?;
                    crash::point(Point::AdopteeSupervised);
                }
                object.unlock().await?;
                crash::point(Point::Adopted);
                self.lock = false;
                return Ok(None);
            }
        }
        let limit = self.config.start_limit(snapshot.tree);
        object.announce(limit).await?;
        crash::point(Point::Announced);
        self.replace(object, snapshot).await.map(Some)
    }

    /// The instance of a snapshot, with its process looked up; as it was, if it is still the same.
    async fn current(
        &self,
        snapshot: &Snapshot,
        instance: Instance,
    ) -> Result<(Arc<Current<W>>, Seen)> {
        let known = self
            .turn
            .known()
            .filter(|known| known.instance == instance && known.generation == snapshot.generation);
        if let Some(known) = known {
            return Ok((known, Seen::Before));
        }
        let process = if instance.identity.pid == 0 {
            None
        } else {
            let found = self.world().look_up(instance.identity.pid).await?;
            found
                .filter(|(identity, _)| *identity == instance.identity)
                .map(|(_, process)| Arc::new(process))
        };
        let seat = self.turn.seat();
        let Description {
            info,
            fingerprint,
            definition,
        } = describe_whole(&seat.world, &seat.key, &instance).await;
        let current = Arc::new(Current {
            instance,
            generation: snapshot.generation,
            info,
            fingerprint,
            definition,
            process,
            death: Watch::default(),
        });
        Ok((current, Seen::Now))
    }
}
