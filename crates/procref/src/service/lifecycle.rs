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
use std::time::Instant;

use super::config::{Config, Orphan, callback_error};
use super::departure::{Departure, Hold};
use super::seat::{Current, Deadline, ObjectOf, PutDown, Seat};
use super::world::World;
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Instance, Lock, Missing, Object, Snapshot, Step, Supervised};
use crate::process::Identity;
use crate::record::Record;

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

    fn share(seat: &Arc<Seat<W>>, config: &Arc<Config>) -> Option<Self> {
        seat.share().map(|current| Self {
            seat: Arc::clone(seat),
            config: Arc::clone(config),
            current,
            put_down: false,
        })
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
            PutDown::Last(turn) => Some(Departure::new(Hold::last(turn, &self.config))),
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
) -> Result<Lease<W>> {
    let deadline = Deadline::after(config.wait_timeout);
    let mut judged = None;
    let shared = Lease::share(seat, config);
    if let Some(lease) = &shared {
        if is_healthy(seat, config, &lease.current, Seen::Before).await? {
            return Ok(shared.expect("it was there a line above"));
        }
        judged = Some(lease.current.generation);
    }
    let mut drive = Drive(Some(Hold::begin(seat.turn().await, config)));
    drop(shared);
    loop {
        match drive.attempt(&mut judged, deadline).await {
            Ok(Some(current)) => return Ok(drive.finish(current)),
            Ok(None) => {}
            // The service was stopped, or its object removed from outside: a new one is opened, and
            // everything begins again on it.
            Err(Fault::Removed) => drive.forget(),
            Err(Fault::Refused(error)) => {
                drive.give_back().await;
                return Err(error);
            }
        }
    }
}

/// Joins what serves and is healthy; never starts, stops or waits for anything.
pub(crate) async fn try_join<W: World>(
    seat: &Arc<Seat<W>>,
    config: &Arc<Config>,
) -> Result<Option<Lease<W>>> {
    if let Some(lease) = Lease::share(seat, config) {
        let healthy = is_healthy(seat, config, &lease.current, Seen::Before).await?;
        return Ok(healthy.then_some(lease));
    }
    let Some(turn) = seat.try_turn() else {
        return Ok(None);
    };
    let mut drive = Drive(Some(Hold::begin(turn, config)));
    loop {
        match drive.attempt_join().await {
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

/// When an instance's process was looked up: whoever was alive a moment ago need not be asked again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Now,
    Before,
}

/// Whether it is this very instance, alive, and the client's own check says so, too.
async fn is_healthy<W: World>(
    seat: &Seat<W>,
    config: &Config,
    current: &Current<W>,
    seen: Seen,
) -> Result<bool> {
    let remote = current.instance.identity.pid == 0;
    match &current.process {
        Some(_) if seen == Seen::Now => {}
        Some(process) if !seat.world.is_alive(process).await => return Ok(false),
        None if !remote => return Ok(false),
        _ => {}
    }
    let Some(check) = &config.health else {
        if remote {
            return Err(Error::InvalidSetting {
                service: seat.key.name().to_owned(),
                setting: "on_health_check",
                reason:
                    "the service has no local process (pid 0), so only a health check can tell \
                         whether it lives, and this client has none"
                        .to_owned(),
            });
        }
        return Ok(true);
    };
    match seat
        .world
        .within(config.wait_timeout, check(&current.info))
        .await
    {
        Some(healthy) => Ok(healthy),
        None => {
            tracing::warn!(
                service = seat.key.name(),
                pid = current.info.pid(),
                limit = ?config.wait_timeout,
                "the health check did not end: taken for unhealthy"
            );
            Ok(false)
        }
    }
}

/// A hold that is given back if its future is dropped: cancelled, or unwound by a callback's panic.
struct Drive<W: World>(Option<Hold<W>>);

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
        drop(self.0.take().map(Departure::new));
    }
}

impl<W: World> Drive<W> {
    fn finish(mut self, current: Arc<Current<W>>) -> Lease<W> {
        let hold = self.0.take().expect("taken only when the drive ends");
        let lease = Lease {
            seat: Arc::clone(hold.turn.seat()),
            config: Arc::clone(&hold.config),
            current: Arc::clone(&current),
            put_down: false,
        };
        hold.turn.finish(current);
        lease
    }

    async fn give_back(&mut self) {
        if let Some(hold) = self.0.take() {
            let service = hold.service().to_owned();
            if let Err(error) = Departure::new(hold).await {
                tracing::error!(service, %error, "could not give back cleanly after a failure");
            }
        }
    }

    /// One step towards a service. `None`: look again.
    async fn attempt(
        &mut self,
        judged: &mut Option<u16>,
        deadline: Deadline,
    ) -> Step<Option<Arc<Current<W>>>> {
        let object = self.object(Missing::Create).await?;
        let object = object.ok_or(Fault::Removed)?;
        if !self.reference {
            if object.join(self.wanted()).await? {
                self.reference = true;
            } else {
                let snapshot = object.snapshot().await?;
                if snapshot.locked {
                    tracing::debug!(service = self.service(), "waiting for another process");
                    self.turn.seat().wait_unlocked(&object, deadline).await?;
                    return Ok(None);
                }
                if snapshot.clients > 0 && self.is_watched(&snapshot) {
                    // It can be joined by now, or needs no supervisor for that.
                    self.reference = !snapshot.supervised && object.join(Supervised::No).await?;
                    return Ok(None);
                }
                if !object.try_enter().await? {
                    return Ok(None);
                }
                self.reference = true;
                self.lock = true;
            }
        }
        let snapshot = object.snapshot().await?;
        if self.lock {
            return self.under_lock(&object, snapshot, *judged).await;
        }
        if let Some(instance) = unjudged(&snapshot, *judged) {
            let (current, seen) = self.current(&snapshot, instance).await?;
            if is_healthy(self.turn.seat(), &self.config, &current, seen).await? {
                let (service, generation) = (self.service(), current.generation);
                tracing::debug!(service, pid = current.info.pid(), generation, "joined");
                return Ok(Some(current));
            }
            let (service, pid) = (self.service(), instance.identity.pid);
            tracing::info!(
                service,
                pid,
                generation = snapshot.generation,
                "found unhealthy"
            );
            *judged = Some(snapshot.generation);
        }
        if object.try_lock().await? {
            self.lock = true;
        } else {
            self.turn.seat().wait_unlocked(&object, deadline).await?;
        }
        Ok(None)
    }

    async fn attempt_join(&mut self) -> Step<Option<Arc<Current<W>>>> {
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Ok(None);
        };
        if !self.reference {
            if !object.join(Supervised::No).await? {
                return Ok(None);
            }
            self.reference = true;
        }
        let snapshot = object.snapshot().await?;
        let Some(instance) = unjudged(&snapshot, None) else {
            return Ok(None);
        };
        let (current, seen) = self.current(&snapshot, instance).await?;
        let healthy = is_healthy(self.turn.seat(), &self.config, &current, seen).await?;
        Ok(healthy.then_some(current))
    }

    async fn under_lock(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
        judged: Option<u16>,
    ) -> Step<Option<Arc<Current<W>>>> {
        if !snapshot.claimed {
            object.claim().await?;
        }
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
                    self.supervise(object).await?;
                }
                object.unlock().await?;
                self.lock = false;
                return Ok(None);
            }
        }
        self.replace(object, snapshot).await.map(Some)
    }

    /// Under the lock: what the set names cannot be used, so it is recovered, or stopped and started
    /// anew.
    async fn replace(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
    ) -> Step<Arc<Current<W>>> {
        let begun = Instant::now();
        let config = Arc::clone(&self.config);
        let others = snapshot.clients > 1 || self.turn.has_other_handles();
        let old = snapshot.instance;
        let recover = match (&config.recover, old) {
            (Some(recover), Some(old)) if others && old.is_serving() => Some((recover, old)),
            _ => None,
        };
        if recover.is_none() && config.start.is_none() {
            return Err(Fault::Refused(Error::NoStart {
                service: self.service().to_owned(),
            }));
        }
        self.world().check_record(&self.turn.seat().key).await?;
        if self.config.orphan == Orphan::Stop && !snapshot.supervised {
            // Before anything is started: from then on this process may be killed at any time.
            self.supervise(object).await?;
        }

        let (callback, info) = match (recover, &config.start) {
            (Some((recover, old)), _) => {
                let callback = "on_recover";
                tracing::debug!(
                    service = self.service(),
                    pid = old.identity.pid,
                    "calling {callback}"
                );
                let old = self.describe(&old).await;
                (callback, self.call(callback, recover(old)).await?)
            }
            (None, Some(start)) => {
                self.stop_leftover(object, snapshot).await?;
                let callback = "on_first_acquire";
                tracing::debug!(service = self.service(), "calling {callback}");
                (callback, self.call(callback, start()).await?)
            }
            (None, None) => unreachable!("refused above"),
        };
        let (unready, process) = self.admit(callback, &info).await?;
        let replaced = recover.filter(|(_, old)| old.identity != unready.identity);
        if let Some((_, old)) = replaced {
            // R2: nothing starts beside anything alive. The callback has replaced the old instance,
            // so what is left of it is ended by procref itself.
            self.end_replaced(&old).await?;
        }
        let generation = snapshot.next_generation();
        let info = info.identified(unready.identity.start);
        let published = self
            .publish(
                object,
                unready,
                generation,
                &info,
                process.as_ref(),
                callback,
            )
            .await;
        match published {
            Ok(instance) => {
                self.lock = false;
                let (service, pid, port) = (self.service(), info.pid(), info.port());
                let elapsed = begun.elapsed();
                let what = if recover.is_some() {
                    "recovered"
                } else {
                    "started"
                };
                tracing::info!(service, pid, port, generation, ?elapsed, "{what}");
                Ok(Arc::new(Current {
                    instance,
                    generation,
                    info,
                    process,
                }))
            }
            Err(Fault::Removed) => {
                // Nobody can find what was started here, and the next one will start another.
                self.end_unpublished(&unready, info).await?;
                Err(Fault::Removed)
            }
            // What was published of it is stopped when the lock is given back.
            refused => refused.map(|_| unreachable!("the other cases are above")),
        }
    }

    /// First as an instance that nobody may use yet, so that it can be found and stopped whatever
    /// happens from here on; then the record; then ready, and unlocked with the same step.
    async fn publish(
        &self,
        object: &Arc<ObjectOf<W>>,
        unready: Instance,
        generation: u16,
        info: &ServiceInfo,
        process: Option<&Arc<W::Process>>,
        callback: &'static str,
    ) -> Step<Instance> {
        let seat = self.turn.seat();
        object
            .publish(Some(&unready), generation, Lock::Keep)
            .await?;
        let record = Record::new(&seat.key, unready.identity, info);
        seat.world.write_record(&seat.key, &record).await?;
        let candidate = Current {
            instance: unready,
            generation,
            info: info.clone(),
            process: process.cloned(),
        };
        if !is_healthy(seat, &self.config, &candidate, Seen::Before).await? {
            return Err(Fault::Refused(Error::Unhealthy {
                service: self.service().to_owned(),
                callback,
                pid: info.pid(),
            }));
        }
        let ready = Instance {
            ready: true,
            ..unready
        };
        object
            .publish(Some(&ready), generation, Lock::Release)
            .await?;
        Ok(ready)
    }

    /// R2: before a start, whatever lives is stopped.
    async fn stop_leftover(&self, object: &Arc<ObjectOf<W>>, snapshot: Snapshot) -> Step<()> {
        let leftover = match snapshot.instance {
            Some(instance) => Some(instance),
            // A set that was removed from outside and made anew knows nothing of the instance it
            // counted; the record does.
            None => self.recorded().await?,
        };
        let Some(instance) = leftover else {
            return Ok(());
        };
        if let Some(error) = self.stop(object, instance, snapshot.generation).await? {
            tracing::warn!(service = self.service(), %error, "stopped what was left");
        }
        Ok(())
    }

    /// The instance that the record names, if it lives.
    async fn recorded(&self) -> Result<Option<Instance>> {
        let seat = self.turn.seat();
        let Some(record) = seat.world.read_record(&seat.key).await else {
            return Ok(None);
        };
        let Some(identity) = record.identity() else {
            return Ok(None);
        };
        let alive = seat.world.look_up(identity.pid).await?;
        if alive.is_none_or(|(found, _)| found != identity) {
            return Ok(None);
        }
        tracing::warn!(
            service = self.service(),
            pid = identity.pid,
            "it runs, but its kernel object is gone: stopping it"
        );
        Ok(Some(Instance {
            identity,
            port: record.port(),
            ready: false,
            stopping: false,
            hosted: identity.pid == seat.world.own_pid(),
            has_metadata: record.has_metadata(),
            keep_orphan: false,
            linger_ms: 0,
        }))
    }

    /// The old instance, after `on_recover` returned another one.
    async fn end_replaced(&self, old: &Instance) -> Result<()> {
        let world = self.world();
        if old.hosted || old.identity.pid == 0 {
            return Ok(());
        }
        let found = world.look_up(old.identity.pid).await?;
        let Some((_, process)) = found.filter(|(identity, _)| *identity == old.identity) else {
            return Ok(());
        };
        self.end_process(
            &Arc::new(process),
            old.identity.pid,
            false,
            Deadline::after(self.config.stop_timeout),
        )
        .await
    }

    async fn supervise(&self, object: &Arc<ObjectOf<W>>) -> Result<()> {
        let seat = self.turn.seat();
        seat.world
            .supervise(&seat.key, object, self.config.stop_timeout)
            .await?;
        tracing::debug!(service = self.service(), "started a supervisor");
        Ok(())
    }

    /// Whether to ask for a supervisor in a join.
    fn wanted(&self) -> Supervised {
        match self.config.orphan {
            Orphan::Stop => Supervised::Yes,
            Orphan::Keep => Supervised::No,
        }
    }

    /// Whether somebody sees to the service when all clients are killed, or nobody is meant to. The
    /// instance's setting counts, which its starter made, and not this client's.
    fn is_watched(&self, snapshot: &Snapshot) -> bool {
        snapshot.supervised
            || snapshot
                .instance
                .is_some_and(|instance| instance.keep_orphan)
    }

    /// Runs a callback within the start timeout. A panic goes on to the caller of `acquire`.
    async fn call(
        &self,
        callback: &'static str,
        future: impl Future<Output = Result<ServiceInfo>> + Send,
    ) -> Result<ServiceInfo> {
        let limit = self.config.start_timeout;
        match self.world().within(limit, future).await {
            Some(done) => done.map_err(|error| callback_error(self.service(), callback, error)),
            None => Err(Error::Timeout {
                service: self.service().to_owned(),
                operation: match callback {
                    "on_recover" => "`on_recover`",
                    _ => "`on_first_acquire`",
                },
                limit,
                holder: None,
            }),
        }
    }

    /// Checks what a callback returned, and looks up who it is.
    async fn admit(
        &self,
        callback: &'static str,
        info: &ServiceInfo,
    ) -> Result<(Instance, Option<Arc<W::Process>>)> {
        let pid = info.pid();
        let refused = |reason: &str| Error::InvalidInstance {
            service: self.service().to_owned(),
            callback,
            pid,
            reason: reason.to_owned(),
        };
        let instance = |identity, hosted| Instance {
            identity,
            port: info.port(),
            ready: false,
            stopping: false,
            hosted,
            has_metadata: info.metadata().next().is_some(),
            // Nobody but a callback could stop a service without a local process.
            keep_orphan: pid == 0 || self.config.orphan == Orphan::Keep,
            linger_ms: self.config.linger_ms,
        };
        if pid == 0 {
            if self.config.health.is_none() {
                return Err(refused(
                    "that means a service without a local process, and only an `on_health_check` \
                     could tell whether it lives",
                ));
            }
            return Ok((instance(Identity { pid: 0, start: 0 }, false), None));
        }
        if pid == 1 {
            return Err(refused("that is the system's first process"));
        }
        match self.world().look_up(pid).await? {
            Some((identity, process)) => {
                let hosted = pid == self.world().own_pid();
                Ok((instance(identity, hosted), Some(Arc::new(process))))
            }
            None => Err(refused("no such process is alive")),
        }
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
        let current = Arc::new(Current {
            instance,
            generation: snapshot.generation,
            info: self.describe(&instance).await,
            process,
        });
        Ok((current, Seen::Now))
    }
}

/// The instance of a snapshot if it serves and is not the one that was found unhealthy.
fn unjudged(snapshot: &Snapshot, judged: Option<u16>) -> Option<Instance> {
    snapshot
        .instance
        .filter(|instance| instance.is_serving() && judged != Some(snapshot.generation))
}
