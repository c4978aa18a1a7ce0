//! Starts or recovers an instance, with the lock held.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::config::{Orphan, RecoverFn, StartFn, callback_error};
use super::health::{Seen, is_healthy};
use super::platform::{ObjectOf, Platform, find_identity};
use super::recursion::calling;
use super::resolved_instance::ResolvedInstance;
use super::shared_wait::SharedWait;
use super::stop::Target;
use super::transition::Transition;
use crate::command::StopPolicy;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Instance, Kernel, Lock, Object, Snapshot, Step};
use crate::process::Identity;
use crate::record::Record;
use crate::runtime::deadline::Deadline;

/// The callback that makes an instance.
enum StartMode<'a> {
    Start(&'a StartFn),
    Recover(&'a RecoverFn, Instance),
}

impl StartMode<'_> {
    fn callback(&self) -> &'static str {
        match self {
            Self::Start(_) => "on_first_acquire",
            Self::Recover(..) => "on_recover",
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Start(_) => "started",
            Self::Recover(..) => "recovered",
        }
    }
}

impl<W: Platform> Transition<W> {
    /// Replaces an instance that no client can use: recovers it, or stops it and starts another one. Call this with the
    /// lock held.
    pub(super) async fn replace(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
    ) -> Step<Arc<ResolvedInstance<W>>> {
        let begun = Instant::now();
        let config = Arc::clone(&self.config);
        if let Some(command) = &config.command {
            return self.start_command(object, snapshot, command, begun).await;
        }
        let others = snapshot.clients > 1 || self.permit().has_other_handles();
        let old = snapshot.instance;
        let recover = match (&config.recover, old) {
            (Some(recover), Some(old)) if others && old.is_serving() => Some((recover, old)),
            _ => None,
        };
        let mode = match (recover, &config.start) {
            (Some((recover, old)), _) => StartMode::Recover(recover, old),
            (None, Some(start)) => StartMode::Start(start),
            (None, None) => {
                return Err(Fault::Refused(Error::NoStart {
                    service: self.service().to_owned(),
                }));
            }
        };
        self.platform().check_record(&self.client().key).await?;
        // A supervisor that is or was the parent of an older instance's processes would stop this instance as that one.
        // If it has retired, it exits when there is another supervisor.
        let supervised = snapshot.supervised && !snapshot.tree && snapshot.ended.is_none();
        if self.config.orphan == Orphan::Stop && !supervised {
            // The supervisor starts first, so that this process may be killed at any later time.
            self.supervise(object, self.config.stop()).await?;
            crash::point(Point::Supervised);
        }

        let callback = mode.callback();
        let service = self.service();
        let info = match &mode {
            StartMode::Recover(recover, old) => {
                tracing::debug!(service, pid = old.identity.pid, "calling {callback}");
                let old = self.describe(old).await;
                self.call(callback, recover(old)).await?
            }
            StartMode::Start(start) => {
                self.stop_leftover(object, snapshot).await?;
                tracing::debug!(service, "calling {callback}");
                self.call(callback, start()).await?
            }
        };
        crash::point(Point::CalledBack);
        let (unready, process) = self.validate_returned(callback, &info).await?;
        let info = info.identified(unready.identity.start);
        self.unpublished = Some((unready, info.clone()));
        match &mode {
            // R2: the callback has returned another process, so procref stops the old one.
            StartMode::Recover(_, old) if old.identity != unready.identity => {
                self.end_replaced(old).await?;
                crash::point(Point::ReplacedEnded);
            }
            _ => {}
        }
        let candidate = ResolvedInstance {
            instance: unready,
            generation: snapshot.next_generation(),
            info,
            fingerprint: self.config.own_fingerprint(),
            definition: self.config.definition.clone(),
            process,
            death: SharedWait::default(),
            rejoin: OnceLock::new(),
        };
        match self.publish(object, &candidate, callback).await {
            Ok(instance) => {
                self.unpublished = None;
                let ResolvedInstance {
                    info, generation, ..
                } = &candidate;
                let (pid, port, elapsed) = (info.pid(), info.port(), begun.elapsed());
                let (service, done) = (self.service(), mode.done());
                tracing::info!(service, pid, port, generation, ?elapsed, "{done}");
                Ok(Arc::new(ResolvedInstance {
                    instance,
                    ..candidate
                }))
            }
            Err(Fault::Removed) => {
                // No other process can find this instance, so it must be stopped. The next client starts
                // another one.
                self.end_unpublished().await?;
                Err(Fault::Removed)
            }
            // The release of the transition stops the published instance.
            Err(refused) => Err(refused),
        }
    }

    /// Publishes an instance in this order: not ready, record, ready. The last step unlocks, too.
    ///
    /// While the instance is published as not ready, no client may use it. But if this process dies, the next
    /// client can find and stop the instance.
    async fn publish(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        candidate: &ResolvedInstance<W>,
        callback: &'static str,
    ) -> Step<Instance> {
        let client = Arc::clone(self.client());
        let (unready, generation) = (candidate.instance, candidate.generation);
        object
            .publish(Some(&unready), generation, Lock::Keep)
            .await?;
        crash::point(Point::PublishedUnready);
        let record = Record::new(&client.key, unready.identity, &candidate.info)
            .with_hosted(unready.hosted)
            .with_fingerprint(candidate.fingerprint.clone())
            .with_definition(candidate.definition.clone());
        client.platform.write_record(&client.key, &record).await?;
        crash::point(Point::Recorded);
        self.verify_ready(callback, candidate).await?;
        self.publish_ready(unready, generation).await
    }

    /// Checks an instance before other clients may use it. `callback` is the callback that has reported the
    /// instance as ready.
    pub(super) async fn verify_ready(
        &self,
        callback: &'static str,
        candidate: &ResolvedInstance<W>,
    ) -> Result<()> {
        let client = self.client();
        if !is_healthy(client, &self.config, candidate, Seen::Before).await? {
            return Err(Error::Unhealthy {
                service: self.service().to_owned(),
                callback,
                pid: candidate.info.pid(),
            });
        }
        self.call_on_ready(candidate).await
    }

    /// Publishes an instance as ready, and unlocks.
    pub(super) async fn publish_ready(
        &mut self,
        unready: Instance,
        generation: u16,
    ) -> Step<Instance> {
        crash::point(Point::Answering);
        let client = Arc::clone(self.client());
        client.platform.clear_failures(&client.key).await;
        let ready = Instance {
            ready: true,
            ..unready
        };
        self.publish_and_unlock(&ready, generation, Point::PublishedReady)
            .await?;
        Ok(ready)
    }

    /// Calls `on_ready` for an instance that works, before other clients may use it.
    async fn call_on_ready(&self, candidate: &ResolvedInstance<W>) -> Result<()> {
        let Some(on_ready) = &self.config.on_ready else {
            return Ok(());
        };
        let callback = "on_ready";
        let (service, pid) = (self.service(), candidate.info.pid());
        tracing::debug!(service, pid, "calling {callback}");
        self.call(callback, on_ready(candidate.info.clone()))
            .await?;
        // The callback may have taken long, and the service may have exited in that time.
        if !candidate.is_alive().await {
            let exited = format!("process {pid} exited while the callback ran").into();
            return Err(callback_error(service, callback, exited));
        }
        Ok(())
    }

    /// Stops a leftover instance before a start (R2).
    pub(super) async fn stop_leftover(
        &self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
    ) -> Step<()> {
        let Some(instance) = self.leftover(&snapshot).await? else {
            return Ok(());
        };
        if let Some(error) = self.stop(object, instance, snapshot.generation).await? {
            tracing::warn!(service = self.service(), %error, "stopped leftover instance, but its callback failed");
        }
        crash::point(Point::LeftoverStopped);
        // The stop announced its own limit, so announce the limit of the start again.
        let limit = self.config.start_limit(snapshot.tree);
        object.announce(limit).await?;
        crash::point(Point::Reannounced);
        Ok(())
    }

    /// Returns the instance that the object or the record names.
    pub(crate) async fn leftover(&self, snapshot: &Snapshot) -> Result<Option<Instance>> {
        match snapshot.instance {
            Some(instance) => Ok(Some(instance)),
            // If the object was removed from outside and recreated, it does not name the old instance. The
            // record does.
            None => self.recorded().await,
        }
    }

    /// Returns the instance that the record names, if it is alive.
    async fn recorded(&self) -> Result<Option<Instance>> {
        let client = self.client();
        let Some(record) = client.platform.read_record(&client.key).await else {
            return Ok(None);
        };
        let Some(identity) = record.identity() else {
            return Ok(None);
        };
        if find_identity(&client.platform, identity).await?.is_none() {
            return Ok(None);
        }
        tracing::warn!(
            service = self.service(),
            pid = identity.pid,
            "found a running instance without a kernel object; stopping it"
        );
        Ok(Some(Instance {
            identity,
            port: record.port(),
            ready: false,
            stopping: false,
            hosted: record.is_hosted() || identity.pid == client.platform.own_pid(),
            has_metadata: record.has_metadata(),
            command: record.stop().is_some(),
            keep_orphan: false,
            linger_ms: 0,
        }))
    }

    /// Stops the old instance, after `on_recover` has returned another one.
    async fn end_replaced(&self, old: &Instance) -> Result<()> {
        let Some(Target::Process(process)) = self.target(old).await? else {
            return Ok(());
        };
        self.end_process(
            &process,
            old.identity.pid,
            Some(self.config.stop().signal),
            Deadline::after(self.config.stop_timeout),
        )
        .await
    }

    pub(super) async fn supervise(
        &self,
        object: &Arc<ObjectOf<W>>,
        stop: StopPolicy,
    ) -> Result<()> {
        if !W::Kernel::NEEDS_SUPERVISOR {
            return Ok(());
        }
        let client = self.client();
        client
            .platform
            .supervise(&client.key, object, stop, self.caller)
            .await?;
        tracing::debug!(service = self.service(), "started a supervisor");
        Ok(())
    }

    /// Returns `true` if the service has a live supervisor, or if its instance is kept without one. The
    /// setting of the instance's starter counts, not this client's (R4).
    pub(super) fn is_supervised(&self, snapshot: &Snapshot) -> bool {
        !W::Kernel::NEEDS_SUPERVISOR
            || snapshot.supervised
            || snapshot
                .instance
                .is_some_and(|instance| instance.keep_orphan)
    }

    /// Runs a callback within the start timeout. A panic of the callback is resumed in the caller of
    /// `acquire`.
    async fn call<T>(
        &self,
        callback: &'static str,
        future: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let limit = self.config.start_timeout;
        let client = self.client();
        match client
            .platform
            .timeout(limit, calling(client, future))
            .await
        {
            Some(done) => done.map_err(|error| callback_error(self.service(), callback, error)),
            None => {
                let operation = match callback {
                    "on_recover" => "`on_recover`",
                    "on_ready" => "`on_ready`",
                    _ => "`on_first_acquire`",
                };
                Err(client.timeout_error(operation, limit, None))
            }
        }
    }

    /// Checks what a callback has returned, and finds the process.
    async fn validate_returned(
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
            has_metadata: info.metadata().next().is_some() || self.config.needs_record(),
            command: false,
            // Only a callback can stop a service without a local process, and a supervisor has no callbacks.
            keep_orphan: pid == 0 || self.config.orphan == Orphan::Keep,
            linger_ms: self.config.linger_ms,
        };
        if pid == 0 {
            if self.config.health.is_none() {
                return Err(refused(
                    "it stands for a service without a local process, and only an `on_health_check` could find \
                     out whether that is alive",
                ));
            }
            return Ok((instance(Identity { pid: 0, start: 0 }, false), None));
        }
        if pid == 1 {
            return Err(refused("it is the system's first process"));
        }
        match self.platform().find_process(pid).await? {
            Some((identity, process)) => {
                let hosted = pid == self.platform().own_pid();
                Ok((instance(identity, hosted), Some(Arc::new(process))))
            }
            None => Err(refused("no process with this pid is alive")),
        }
    }
}
