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

use std::sync::Arc;

use super::client::{Access, Client};
use super::config::Config;
use super::describe::{Description, describe_whole};
use super::handle::HandleInner;
use super::health::{Seen, is_usable};
use super::platform::{ObjectOf, Platform, ServiceProcess as _, find_identity};
use super::recursion;
use super::resolved_instance::ResolvedInstance;
use super::shared_wait::SharedWait;
use super::transition::Transition;
use super::unhealthy::{Unhealthy, serving_instance};
use super::waiting::Waiting;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{self, Fault, Instance, Kernel, Missing, Object, Snapshot, Step, Supervised};
use crate::runtime::deadline::Deadline;

pub(crate) async fn acquire<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    mut waiting: Waiting<W>,
) -> Result<HandleInner<W>> {
    recursion::check_callback(client)?;
    let mut rejected = None;
    let mut unhealthy = None;
    let permit = loop {
        match client.access(rejected).await {
            Access::Exclusive(permit) => break permit,
            Access::Shared(current) => {
                let lease = HandleInner::new(client, config, current);
                if is_usable(client, config, lease.current(), Seen::Before).await? {
                    waiting.finish();
                    return Ok(lease);
                }
                rejected = Some(Unhealthy::of(lease.current()));
                // Kept until the turn is ours: others of this process may be about to let go.
                unhealthy = Some(lease);
            }
        }
    };
    let mut transition = Transition::begin(permit, config);
    drop(unhealthy);
    loop {
        match transition.attempt(&mut rejected, &mut waiting).await {
            Ok(Some(current)) => {
                waiting.finish();
                transition.wait_supervisor_unlock().await;
                return Ok(transition.finish(current));
            }
            Ok(None) => {}
            // The service was stopped, or its object removed from outside: a new one is opened, and
            // everything begins again on it. What was found unhealthy was of the old one. A service without
            // a local process has nothing else that tells its instances apart.
            Err(Fault::Removed) => {
                transition.forget();
                rejected = None;
            }
            Err(Fault::Refused(error)) => {
                let failed = transition.has_lock() && !matches!(error, Error::NoStart { .. });
                if failed {
                    transition.failure = Some(error.to_string());
                }
                let late = matches!(error, Error::Timeout { .. });
                transition.remove_blank().await;
                transition.release_after_failure().await;
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
pub(crate) async fn try_join<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    supervised: Supervised,
) -> Result<Option<HandleInner<W>>> {
    if let Some(current) = client.share() {
        let lease = HandleInner::new(client, config, current);
        let healthy = is_usable(client, config, lease.current(), Seen::Before).await?;
        return Ok(healthy.then_some(lease));
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
    /// What was executed just now is ready, and its supervisor shares the lock until it has seen that. Who is
    /// told of the service by this client may come before that, and [`try_join`] waits for nobody who holds the
    /// lock: it would find no service. Whatever keeps the supervisor from letting go, the service is ready.
    /// The time for this is a start's, not what others have left of this client's time to wait for them.
    ///
    /// From here on this is a client like any other: cancelled, it leaves, and does not clear up a start.
    async fn wait_supervisor_unlock(&mut self) {
        if self.starting.take().is_none() || !W::Kernel::NEEDS_SUPERVISOR {
            return;
        }
        if let Some(object) = self.client().known_object() {
            let deadline = Deadline::after(self.config.start_timeout);
            let _ = self.client().is_unlocked_by(&object, deadline).await;
        }
    }

    fn finish(self, current: Arc<ResolvedInstance<W>>) -> HandleInner<W> {
        let lease = HandleInner::new(self.client(), &self.config, Arc::clone(&current));
        self.into_permit().finish(current);
        lease
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

    /// One step towards a service. `None`: look again.
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
                    // It can be joined by now, or needs no supervisor for that.
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
            return self.under_lock(&object, snapshot, *rejected).await;
        }
        // A client that keeps orphans has not asked for a supervisor. Whether there has to be one is for the
        // instance to say. If it is missing, it was killed: like who adopts it, start another.
        let asked = self.config.supervised() == Supervised::Yes;
        let watched = asked || self.is_supervised(&snapshot);
        if let Some(instance) = serving_instance(&snapshot, *rejected).filter(|_| watched) {
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

    /// What to ask for in a join, where there are supervisors at all.
    fn required_supervision(&self, supervised: Supervised) -> Supervised {
        match W::Kernel::NEEDS_SUPERVISOR {
            true => supervised,
            false => Supervised::No,
        }
    }

    /// An instance that is kept although nobody uses it (pinned, warm, an orphan) stays as it is if it is
    /// not what this client wants. Found out after entering, it would be left by its last client, and
    /// stopped, or kept warm for longer.
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

    /// A client that joins limits the log, too. The supervisor that executed the service does it while the log
    /// grows, but it may have been killed, or the kernel may not report writes.
    async fn rotate_log(&self) {
        if let Some(command) = &self.config.command {
            let client = self.client();
            client.platform.rotate_log(&client.key, command).await;
        }
    }

    async fn under_lock(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
        rejected: Option<Unhealthy>,
    ) -> Step<Option<Arc<ResolvedInstance<W>>>> {
        if let Some(instance) = serving_instance(&snapshot, rejected) {
            let (current, seen) = self.resolve(&snapshot, instance).await?;
            let alive = match &current.process {
                Some(process) => seen == Seen::Now || process.is_alive().await,
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

    /// The instance of a snapshot, with its process looked up; as it was, if it is still the same.
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
        });
        Ok((current, Seen::Now))
    }
}
