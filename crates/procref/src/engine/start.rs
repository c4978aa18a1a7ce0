//! Under the lock: starting an instance, or recovering one.

use std::sync::Arc;
use std::time::Instant;

use super::config::{Orphan, RecoverFn, StartFn, callback_error};
use super::health::{Seen, is_healthy};
use super::platform::{ObjectOf, Platform, ServiceProcess as _, find_identity};
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

/// How an instance that can be used comes about, by callback.
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
    /// Under the lock: what the set names cannot be used, so it is recovered, or stopped and started
    /// anew.
    pub(crate) async fn replace(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
    ) -> Step<Arc<ResolvedInstance<W>>> {
        let begun = Instant::now();
        let config = Arc::clone(&self.config);
        if let Some(command) = &config.command {
            return self.execute(object, snapshot, command, begun).await;
        }
        let others = snapshot.clients > 1 || self.permit().has_other_handles();
        let old = snapshot.instance;
        let recover = match (&config.recover, old) {
            (Some(recover), Some(old)) if others && old.is_serving() => Some((recover, old)),
            _ => None,
        };
        let way = match (recover, &config.start) {
            (Some((recover, old)), _) => StartMode::Recover(recover, old),
            (None, Some(start)) => StartMode::Start(start),
            (None, None) => {
                return Err(Fault::Refused(Error::NoStart {
                    service: self.service().to_owned(),
                }));
            }
        };
        self.platform().check_record(&self.client().key).await?;
        // One that is the parent of an older service's processes goes with them.
        let supervised = snapshot.supervised && !snapshot.tree;
        if self.config.orphan == Orphan::Stop && !supervised {
            // Before anything is started: from then on this process may be killed at any time.
            self.supervise(object, self.config.stop()).await?;
            crash::point(Point::Supervised);
        }

        let callback = way.callback();
        let service = self.service();
        let info = match &way {
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
        match &way {
            // R2: nothing starts beside anything alive. The callback has replaced the old instance,
            // so what is left of it is ended by procref itself.
            StartMode::Recover(_, old) if old.identity != unready.identity => {
                self.end_replaced(old).await?;
                crash::point(Point::ReplacedEnded);
            }
            _ => {}
        }
        let generation = snapshot.next_generation();
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
                self.unpublished = None;
                let (pid, port, elapsed) = (info.pid(), info.port(), begun.elapsed());
                let (service, done) = (self.service(), way.done());
                tracing::info!(service, pid, port, generation, ?elapsed, "{done}");
                Ok(Arc::new(ResolvedInstance {
                    instance,
                    generation,
                    info,
                    fingerprint: self.config.own_fingerprint(),
                    definition: self.config.definition.clone(),
                    process,
                    death: SharedWait::default(),
                }))
            }
            Err(Fault::Removed) => {
                // No process can find what was started here, and the next client starts another.
                self.end_unpublished().await?;
                Err(Fault::Removed)
            }
            // What was published of it is stopped when the lock is released.
            Err(refused) => Err(refused),
        }
    }

    /// First as an instance that nobody may use yet, so that it can be found and stopped whatever
    /// happens from here on; then the record; then ready, and unlocked with the same step.
    async fn publish(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        unready: Instance,
        generation: u16,
        info: &ServiceInfo,
        process: Option<&Arc<W::Process>>,
        callback: &'static str,
    ) -> Step<Instance> {
        let client = self.client();
        object
            .publish(Some(&unready), generation, Lock::Keep)
            .await?;
        crash::point(Point::PublishedUnready);
        let record = Record::new(&client.key, unready.identity, info)
            .with_hosted(unready.hosted)
            .with_fingerprint(self.config.own_fingerprint())
            .with_definition(self.config.definition.clone());
        client.platform.write_record(&client.key, &record).await?;
        crash::point(Point::Recorded);
        let candidate = ResolvedInstance {
            instance: unready,
            generation,
            info: info.clone(),
            fingerprint: self.config.own_fingerprint(),
            definition: self.config.definition.clone(),
            process: process.cloned(),
            death: SharedWait::default(),
        };
        self.verify_ready(callback, &candidate).await?;
        self.publish_ready(unready, generation).await
    }

    /// What an instance has to pass before anybody is let in. `callback` has said that it is ready.
    pub(crate) async fn verify_ready(
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

    /// Publishes it as ready, and unlocks.
    pub(crate) async fn publish_ready(
        &mut self,
        unready: Instance,
        generation: u16,
    ) -> Step<Instance> {
        crash::point(Point::Answering);
        let client = self.client();
        client.platform.clear_failures(&client.key).await;
        let ready = Instance {
            ready: true,
            ..unready
        };
        self.publish_and_unlock(&ready, generation, Point::PublishedReady)
            .await?;
        Ok(ready)
    }

    /// What the client wants done with an instance that works, before anybody else is let in.
    async fn call_on_ready(&self, candidate: &ResolvedInstance<W>) -> Result<()> {
        let Some(on_ready) = &self.config.on_ready else {
            return Ok(());
        };
        let callback = "on_ready";
        let (service, pid) = (self.service(), candidate.info.pid());
        tracing::debug!(service, pid, "calling {callback}");
        self.call(callback, on_ready(candidate.info.clone()))
            .await?;
        match &candidate.process {
            // It may have taken long, and done much to the service.
            Some(process) if !process.is_alive().await => {
                let ended = format!("process {pid} ended meanwhile").into();
                Err(callback_error(service, callback, ended))
            }
            _ => Ok(()),
        }
    }

    /// R2: before a start, whatever lives is stopped.
    pub(crate) async fn stop_leftover(
        &self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
    ) -> Step<()> {
        let Some(instance) = self.leftover(&snapshot).await? else {
            return Ok(());
        };
        if let Some(error) = self.stop(object, instance, snapshot.generation).await? {
            tracing::warn!(service = self.service(), %error, "stopped what was left");
        }
        crash::point(Point::LeftoverStopped);
        // The stop has announced its own time.
        let limit = self.config.start_limit(snapshot.tree);
        object.announce(limit).await?;
        crash::point(Point::Reannounced);
        Ok(())
    }

    /// The instance that there is, or was.
    pub(crate) async fn leftover(&self, snapshot: &Snapshot) -> Result<Option<Instance>> {
        match snapshot.instance {
            Some(instance) => Ok(Some(instance)),
            // A set that was removed from outside and made anew knows nothing of the instance it
            // counted; the record does.
            None => self.recorded().await,
        }
    }

    /// The instance that the record names, if it lives.
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
            "it runs, but its kernel object is gone: stopping it"
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

    /// The old instance, after `on_recover` returned another one.
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

    pub(crate) async fn supervise(
        &self,
        object: &Arc<ObjectOf<W>>,
        stop: StopPolicy,
    ) -> Result<()> {
        if !W::Kernel::NEEDS_SUPERVISOR {
            return Ok(());
        }
        let client = self.client();
        client.platform.supervise(&client.key, object, stop).await?;
        tracing::debug!(service = self.service(), "started a supervisor");
        Ok(())
    }

    /// Whether somebody sees to the service when all clients are killed, or nobody is meant to. The
    /// instance's setting counts, which its starter made, and not this client's.
    pub(crate) fn is_supervised(&self, snapshot: &Snapshot) -> bool {
        !W::Kernel::NEEDS_SUPERVISOR
            || snapshot.supervised
            || snapshot
                .instance
                .is_some_and(|instance| instance.keep_orphan)
    }

    /// Runs a callback within the start timeout. A panic goes on to the caller of `acquire`.
    async fn call<T>(
        &self,
        callback: &'static str,
        future: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let limit = self.config.start_timeout;
        let future = calling(self.client(), future);
        match self.platform().timeout(limit, future).await {
            Some(done) => done.map_err(|error| callback_error(self.service(), callback, error)),
            None => Err(Error::Timeout {
                service: self.service().to_owned(),
                operation: match callback {
                    "on_recover" => "`on_recover`",
                    "on_ready" => "`on_ready`",
                    _ => "`on_first_acquire`",
                },
                limit,
                holder: None,
                suspended: false,
            }),
        }
    }

    /// Checks what a callback returned, and looks up who it is.
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
            has_metadata: info.metadata().next().is_some() || self.config.is_told_by_record(),
            command: false,
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
        match self.platform().find_process(pid).await? {
            Some((identity, process)) => {
                let hosted = pid == self.platform().own_pid();
                Ok((instance(identity, hosted), Some(Arc::new(process))))
            }
            None => Err(refused("no such process is alive")),
        }
    }
}
