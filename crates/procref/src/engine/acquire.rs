//! Acquires a service: joins, adopts, starts or recovers it.
//!
//! ```text
//! acquire:   the process has a reference     -> count one more handle, check health, done
//!            rejoin the known instance       -> check health, done
//!            join, the instance serves       -> check health, done
//!            join refused because of a lock  -> wait until it is unlocked, retry
//!            no client to join               -> enter: take lock and reference in one step
//! with the lock:
//!            the instance serves and lives   -> unlock, check health as any client that joins
//!            no other client holds it        -> start
//!            other clients hold it           -> recover
//!            start or recovery fails         -> release, return the error
//! ```

use std::sync::{Arc, OnceLock};

use super::client::{Access, Client, Shortcut};
use super::config::Config;
use super::describe::{Description, describe_whole};
use super::handle::HandleInner;
use super::health::{Seen, is_usable};
use super::platform::{Caller, ObjectOf, Platform, find_identity};
use super::recursion;
use super::rejoin::{Rejoined, rejoin};
use super::resolved_instance::ResolvedInstance;
use super::shared_wait::SharedWait;
use super::transition::{Rejoining, Transition};
use super::unhealthy::{Unhealthy, serving_instance};
use super::waiting::Waiting;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{self, Fault, Instance, Kernel, Missing, Object, Snapshot, Step, Supervised};
use crate::runtime::deadline::Deadline;

/// Acquires the service. Starts or recovers it if necessary.
pub(crate) async fn acquire<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    mut waiting: Waiting<W>,
    caller: Caller,
) -> Result<HandleInner<W>> {
    recursion::check_callback(client)?;
    let mut shared = None;
    let mut rejoined = Rejoined::No;
    match client.shortcut() {
        Shortcut::Shared(current) => shared = Some(HandleInner::new(client, config, current)),
        Shortcut::Rejoin {
            permit,
            known,
            object,
        } => {
            let rejoining = Rejoining::new(permit, object, config);
            let supervised = config.supervised();
            rejoined = rejoin(rejoining, client, config, known, supervised, Point::Joined).await?;
        }
        Shortcut::None => {}
    }
    let accessed = match rejoined {
        Rejoined::Handle(handle) => Accessed::Handle(handle),
        Rejoined::Unusable(transition, rejected) => Accessed::Exclusive(transition, Some(rejected)),
        Rejoined::No => access(client, config, shared).await?,
    };
    let (mut transition, mut rejected) = match accessed {
        Accessed::Exclusive(transition, rejected) => (transition, rejected),
        Accessed::Handle(handle) => {
            waiting.finish();
            return Ok(handle);
        }
    };
    transition = transition.called_by(caller);
    loop {
        match transition.attempt(&mut rejected, &mut waiting).await {
            Ok(Some(current)) => {
                waiting.finish();
                transition.wait_supervisor_unlock().await;
                return Ok(transition.finish(current));
            }
            Ok(None) => {}
            // The service was stopped, or its object was removed from outside. The next attempt opens a new
            // object. The rejected instance belonged to the old object. Services without a local process need
            // this, because all their instances have the same identity.
            Err(Fault::Removed) => {
                transition.forget();
                rejected = None;
            }
            Err(Fault::Refused(error)) => {
                let failed = transition.has_lock() && !matches!(error, Error::NoStart { .. });
                if failed {
                    transition.failure = Some(error.to_string());
                }
                let timed_out = matches!(error, Error::Timeout { .. });
                transition.remove_blank().await;
                transition.release_after_failure().await;
                if !failed && !timed_out {
                    return Err(error);
                }
                let explained = waiting.explain(error);
                if failed {
                    // Keep the note for the clients that still wait.
                    waiting.finish();
                }
                return Err(explained);
            }
        }
    }
}

/// The access of an acquire to the service within its process.
enum Accessed<W: Platform> {
    /// One more handle on the reference that the process holds already.
    Handle(HandleInner<W>),
    /// The permit, and the instance that this client has found unhealthy.
    Exclusive(Transition<W>, Option<Unhealthy>),
}

async fn access<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    mut shared: Option<HandleInner<W>>,
) -> Result<Accessed<W>> {
    let mut rejected = None;
    let mut unhealthy = None;
    let permit = loop {
        let handle = match shared.take() {
            Some(handle) => handle,
            None => match client.access(rejected).await {
                Access::Exclusive(permit) => break permit,
                Access::Shared(current) => HandleInner::new(client, config, current),
            },
        };
        if is_usable(client, config, handle.current(), Seen::Before).await? {
            return Ok(Accessed::Handle(handle));
        }
        rejected = Some(Unhealthy::of(handle.current()));
        // Keep the handle until this future has the permit. If it were dropped here, it could be the
        // last handle of this process, and would stop the service.
        unhealthy = Some(handle);
    };
    let transition = Transition::begin(permit, config);
    drop(unhealthy);
    Ok(Accessed::Exclusive(transition, rejected))
}

/// Joins the service if an instance serves, is healthy and has the required supervision. Never starts, stops
/// or waits.
pub(crate) async fn try_join<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    supervised: Supervised,
) -> Result<Option<HandleInner<W>>> {
    match client.shortcut() {
        Shortcut::Shared(current) => {
            let handle = HandleInner::new(client, config, current);
            let healthy = is_usable(client, config, handle.current(), Seen::Before).await?;
            return Ok(healthy.then_some(handle));
        }
        Shortcut::Rejoin {
            permit,
            known,
            object,
        } => {
            let rejoining = Rejoining::new(permit, object, config);
            let point = Point::TryJoined;
            match rejoin(rejoining, client, config, known, supervised, point).await? {
                Rejoined::Handle(handle) => return Ok(Some(handle)),
                Rejoined::Unusable(transition, _) => {
                    transition.release_after_failure().await;
                    return Ok(None);
                }
                Rejoined::No => {}
            }
        }
        Shortcut::None => {}
    }
    let Some(permit) = client.try_permit() else {
        return Ok(None);
    };
    let mut transition = Transition::begin(permit, config);
    loop {
        match transition.attempt_join(supervised).await {
            Ok(Some(current)) => return Ok(Some(transition.finish(current))),
            Ok(None) => {
                transition.release_after_failure().await;
                return Ok(None);
            }
            Err(Fault::Removed) => transition.forget(),
            Err(Fault::Refused(error)) => {
                transition.release_after_failure().await;
                return Err(error);
            }
        }
    }
}

impl<W: Platform> Transition<W> {
    /// Waits until the supervisor of a service that was just executed has released its share of the lock.
    ///
    /// The supervisor shares the lock until it reads that the service is ready. After `acquire` returns, the
    /// caller may make another process call [`try_join`], which does not wait for a lock and would find no
    /// service. If the supervisor does not release the lock in time, the service is ready anyway. The limit
    /// is the start timeout, not the remaining time of this client's wait for other processes.
    ///
    /// The start is complete. If this client is cancelled now, it only leaves, and does not undo the start.
    async fn wait_supervisor_unlock(&mut self) {
        if self.starting.take().is_none() || !W::Kernel::NEEDS_SUPERVISOR {
            return;
        }
        if let Some(object) = self.client().known_object() {
            let deadline = Deadline::after(self.config.start_timeout);
            if self.caller == Caller::Thread
                && self
                    .platform()
                    .wait_unlocked_here(&object, deadline)
                    .is_some()
            {
                return;
            }
            let _ = self.client().is_unlocked_by(&object, deadline).await;
        }
    }

    fn finish(self, current: Arc<ResolvedInstance<W>>) -> HandleInner<W> {
        let handle = HandleInner::new(self.client(), &self.config, Arc::clone(&current));
        self.into_permit().finish(current);
        handle
    }

    /// Removes the object if this client has created it, and the kernel has refused the first step on it.
    async fn remove_blank(&mut self) {
        if self.has_reference() || self.has_lock() {
            return;
        }
        if let Ok(Some(object)) = self.object(Missing::Ignore).await {
            kernel::remove_blank(&*object).await;
        }
    }

    /// Makes one attempt to get a service. Returns `None` if the state has changed and the caller must retry.
    async fn attempt(
        &mut self,
        rejected: &mut Option<Unhealthy>,
        waiting: &mut Waiting<W>,
    ) -> Step<Option<Arc<ResolvedInstance<W>>>> {
        let object = self.object(Missing::Create).await?;
        let object = object.ok_or(Fault::Removed)?;
        if !self.has_reference() {
            let supervised = self.required_supervision(self.config.supervised());
            if !self.join(supervised, Point::Joined).await? {
                let snapshot = object.snapshot().await?;
                if snapshot.locked {
                    tracing::debug!(service = self.service(), "waiting for another process");
                    waiting.wait_unlocked(&object, &snapshot).await?;
                    return Ok(None);
                }
                let supervisor = W::Kernel::NEEDS_SUPERVISOR && self.is_supervised(&snapshot);
                if snapshot.clients > 0 && supervisor {
                    // Another process has registered a supervisor after the join, or the instance needs none.
                    if !snapshot.supervised {
                        self.join(Supervised::No, Point::JoinedUnsupervised).await?;
                    }
                    return Ok(None);
                }
                self.check_fingerprint_early(&snapshot, *rejected).await?;
                if !self.try_enter(Point::Entered).await? {
                    return Ok(None);
                }
            }
        }
        let snapshot = object.snapshot().await?;
        if self.has_lock() {
            return self.attempt_locked(&object, snapshot, *rejected).await;
        }
        // A client that keeps orphans does not require a supervisor in the join. But the starter's setting
        // determines whether the instance needs one. A missing supervisor was killed. This client then starts
        // another one with the lock held, like a client that adopts an instance.
        let required = self.config.supervised() == Supervised::Yes;
        let supervised = required || self.is_supervised(&snapshot);
        if let Some(instance) = serving_instance(&snapshot, *rejected).filter(|_| supervised) {
            let (current, seen) = self.resolve(&snapshot, instance).await?;
            if is_usable(self.client(), &self.config, &current, seen).await? {
                let (service, generation) = (self.service(), current.generation);
                tracing::debug!(service, pid = current.info.pid(), generation, "joined");
                self.rotate_log().await;
                return Ok(Some(current));
            }
            let (service, pid) = (self.service(), instance.identity.pid);
            tracing::info!(
                service,
                pid,
                generation = snapshot.generation,
                "found unhealthy"
            );
            *rejected = Some(Unhealthy::new(snapshot.generation, &instance));
        }
        if !self.try_lock(Point::Locked).await? {
            waiting.wait_unlocked(&object, &snapshot).await?;
        }
        Ok(None)
    }

    /// Returns the supervision to require in a join: none on a kernel without supervisors.
    fn required_supervision(&self, supervised: Supervised) -> Supervised {
        match W::Kernel::NEEDS_SUPERVISOR {
            true => supervised,
            false => Supervised::No,
        }
    }

    /// Checks the fingerprint before this client enters.
    ///
    /// If this client refuses an instance that is kept without clients (pinned, lingering, an orphan), that
    /// instance must not change. If this were checked after `try_enter`, this client would be the last one to
    /// leave. It would then stop the instance or restart the linger time.
    async fn check_fingerprint_early(
        &self,
        snapshot: &Snapshot,
        rejected: Option<Unhealthy>,
    ) -> Result<()> {
        let Some(instance) = serving_instance(snapshot, rejected) else {
            return Ok(());
        };
        if self.config.fingerprint.is_none() {
            return Ok(());
        }
        let (current, seen) = self.resolve(snapshot, instance).await?;
        if self.config.refuses(&current) {
            is_usable(self.client(), &self.config, &current, seen).await?;
        }
        Ok(())
    }

    async fn attempt_join(
        &mut self,
        supervised: Supervised,
    ) -> Step<Option<Arc<ResolvedInstance<W>>>> {
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Ok(None);
        };
        if !self.has_reference() {
            let supervised = self.required_supervision(supervised);
            if !self.join(supervised, Point::TryJoined).await? {
                return Ok(None);
            }
        }
        let snapshot = object.snapshot().await?;
        let Some(instance) = serving_instance(&snapshot, None) else {
            return Ok(None);
        };
        let (current, seen) = self.resolve(&snapshot, instance).await?;
        if !is_usable(self.client(), &self.config, &current, seen).await? {
            return Ok(None);
        }
        self.rotate_log().await;
        Ok(Some(current))
    }

    /// Limits the service's log. The supervisor that executed the service limits the log while the log grows.
    /// But the supervisor may have been killed, or the kernel may not report writes. So each client that
    /// joins limits the log, too.
    async fn rotate_log(&self) {
        if let Some(command) = &self.config.command {
            let client = self.client();
            client.platform.rotate_log(&client.key, command).await;
        }
    }

    /// Continues an attempt with the lock held.
    async fn attempt_locked(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
        rejected: Option<Unhealthy>,
    ) -> Step<Option<Arc<ResolvedInstance<W>>>> {
        if let Some(instance) = serving_instance(&snapshot, rejected) {
            let (current, seen) = self.resolve(&snapshot, instance).await?;
            let found_alive = seen == Seen::Now && current.process.is_some();
            let alive = found_alive || current.is_alive().await;
            if alive {
                // Another client started the instance before this client took the lock, or its clients died.
                // In both cases this client releases the lock before the health check, like any client that
                // joins. With the lock held, the checks of many clients would run one after another.
                if snapshot.clients == 1 {
                    let (service, pid) = (self.service(), instance.identity.pid);
                    tracing::info!(service, pid, "adopted an instance without clients");
                }
                if !self.is_supervised(&snapshot) {
                    let stop = self.stop_of(&instance).await;
                    self.supervise(object, stop).await?;
                    crash::point(Point::AdopteeSupervised);
                }
                self.unlock(Some(Point::Adopted)).await?;
                return Ok(None);
            }
        }
        let limit = self.config.start_limit(snapshot.tree);
        object.announce(limit).await?;
        crash::point(Point::Announced);
        self.replace(object, snapshot).await.map(Some)
    }

    /// Returns the instance of a snapshot with its process. If the client has resolved the instance already,
    /// this returns the known result.
    async fn resolve(
        &self,
        snapshot: &Snapshot,
        instance: Instance,
    ) -> Result<(Arc<ResolvedInstance<W>>, Seen)> {
        let known = self
            .permit()
            .known()
            .filter(|known| known.instance == instance && known.generation == snapshot.generation);
        if let Some(known) = known {
            return Ok((known, Seen::Before));
        }
        let process = if instance.identity.pid == 0 {
            None
        } else {
            let found = find_identity(&self.platform(), instance.identity).await?;
            found.map(Arc::new)
        };
        let client = self.client();
        let Description {
            info,
            fingerprint,
            definition,
        } = describe_whole(&client.platform, &client.key, &instance).await;
        let current = Arc::new(ResolvedInstance {
            instance,
            generation: snapshot.generation,
            info,
            fingerprint,
            definition,
            process,
            death: SharedWait::default(),
            rejoin: OnceLock::new(),
        });
        Ok((current, Seen::Now))
    }
}
