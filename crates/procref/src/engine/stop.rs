//! R1: stopped means dead.

use std::sync::Arc;
use std::time::Instant;

use super::config::run_to_end;
use super::describe::describe;
use super::platform::{ObjectOf, Platform, ServiceProcess as _, ServiceStart as _, find_identity};
use super::recursion::calling;
use super::transition::Transition;
use crate::command::{StopPolicy, StopSignal};
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Instance, Object, Step};
use crate::process::KILL_TIMEOUT;
use crate::runtime::deadline::Deadline;

/// The process to stop.
pub(super) enum Target<W: Platform> {
    Process(Arc<W::Process>),
    /// This process itself. It is never signaled (R5).
    Hosted,
    /// The instance has no process on this machine.
    Remote,
}

impl<W: Platform> Transition<W> {
    /// Stops an instance. Returns when its process is dead. Call this with the lock held; the instance stays published,
    /// with STOPPING.
    ///
    /// Returns the error of the callback, if it failed and procref stopped the instance itself.
    pub(crate) async fn stop(
        &self,
        object: &Arc<ObjectOf<W>>,
        instance: Instance,
        generation: u16,
    ) -> Step<Option<Error>> {
        // A process with another clock computes another start time, and would treat the instance as dead.
        // Without this check, it would clear the instance and leave it running.
        self.platform().check_view(&self.client().key)?;
        let info = self.describe(&instance).await;
        let policy = self.stop_of(&instance).await;
        let Some(target) = self.target(&instance).await? else {
            return Ok(None);
        };
        // This step comes before the first signal. If this process dies before the instance does, no client
        // may treat the instance as serving. If another process has already published STOPPING, this step
        // publishes it again, with this process's limit.
        object
            .publish_stopping(&instance, generation, policy.limit())
            .await?;
        crash::point(Point::PublishedStopping);
        Ok(self.end(target, info, policy).await?)
    }

    /// Returns the process to stop. Returns `None` if the instance is dead, or is hosted by another process.
    pub(super) async fn target(&self, instance: &Instance) -> Result<Option<Target<W>>> {
        let platform = self.platform();
        if instance.hosted {
            let ours = instance.identity.pid == platform.own_pid();
            return Ok(ours.then_some(Target::Hosted));
        }
        if instance.identity.pid == 0 {
            return Ok(Some(Target::Remote));
        }
        let found = find_identity(&platform, instance.identity).await?;
        Ok(found.map(|process| Target::Process(Arc::new(process))))
    }

    /// Stops the instance that this client started and could not publish, if there is one.
    pub(super) async fn end_unpublished(&mut self) -> Result<()> {
        let Some((instance, info)) = self.unpublished.take() else {
            return Ok(());
        };
        match self.target(&instance).await? {
            Some(target) => {
                let callback_error = self.end(target, info, self.config.stop()).await?;
                callback_error.map_or(Ok(()), Err)
            }
            None => Ok(()),
        }
    }

    /// Waits until all processes of an unusable service have exited. Its supervisor stops them.
    pub(super) async fn wait_tree_exit(&mut self) -> Result<()> {
        let Some(starting) = self.starting.take() else {
            return Ok(());
        };
        // The longest time that the supervisor needs. It stops and kills the service, and then the remaining
        // processes.
        let limit = self.config.drop_patience().saturating_mul(2);
        let platform = self.platform();
        let exited = starting.wait_tree_exit(limit);
        let exited = match self.client().known_object() {
            Some(object) => platform.resuming_supervisor(&object, exited).await?,
            None => exited.await?,
        };
        if !exited {
            let service = self.service();
            tracing::error!(service, "the service has left processes that did not exit");
        }
        Ok(())
    }

    /// Returns how to stop the instance. For an instance that procref executed, the starter's setting counts
    /// (R4). Otherwise, this client's setting counts.
    pub(super) async fn stop_of(&self, instance: &Instance) -> StopPolicy {
        let client = self.client();
        if !instance.command {
            return StopPolicy {
                signal: StopSignal::default(),
                ..self.config.stop()
            };
        }
        let record = client.platform.read_record(&client.key).await;
        let recorded = record.filter(|record| record.identity() == Some(instance.identity));
        recorded
            .and_then(|record| record.stop())
            .unwrap_or_else(|| self.config.stop())
    }

    async fn end(
        &self,
        target: Target<W>,
        info: ServiceInfo,
        policy: StopPolicy,
    ) -> Result<Option<Error>> {
        let pid = info.pid();
        let grace = Deadline::after(policy.grace);
        let called = self.call_on_last_release(info, grace).await;
        if !matches!(called, Ok(false)) {
            crash::point(Point::StopCalledBack);
        }
        let process = match target {
            Target::Process(process) => process,
            Target::Hosted => return Ok(called.err()),
            // Only the callback can determine whether the instance has stopped.
            Target::Remote => return called.map(|_| None),
        };
        let by_callback = matches!(called, Ok(true));
        let signal = (!by_callback).then_some(policy.signal);
        self.end_process(&process, pid, signal, grace).await?;
        Ok(called.err())
    }

    /// Stops a process. Returns when it is dead. `signal` is `None` if a callback has requested the stop already.
    pub(super) async fn end_process(
        &self,
        process: &Arc<W::Process>,
        pid: u32,
        signal: Option<StopSignal>,
        grace: Deadline,
    ) -> Result<()> {
        let begun = Instant::now();
        let service = self.service();
        let unstoppable = |reason: String| Error::Unstoppable {
            service: service.to_owned(),
            pid,
            reason,
        };
        if let Some(signal) = signal {
            process
                .request_stop(signal)
                .await
                .map_err(|error| unstoppable(error.to_string()))?;
            crash::point(Point::AskedToEnd);
        }
        if !process.wait(grace.left()).await? {
            tracing::warn!(service, pid, grace = ?grace.limit(), "still alive after its grace; killing it");
            process
                .kill()
                .await
                .map_err(|error| unstoppable(error.to_string()))?;
            crash::point(Point::Killed);
            if !process.wait(KILL_TIMEOUT).await? {
                return Err(unstoppable("it is alive 5 s after SIGKILL".to_owned()));
            }
        }
        tracing::info!(service, pid, elapsed = ?begun.elapsed(), "stopped");
        Ok(())
    }

    /// Calls `on_last_release`. Returns `false` if there is no callback.
    async fn call_on_last_release(&self, info: ServiceInfo, grace: Deadline) -> Result<bool> {
        let Some(stop) = &self.config.stop else {
            return Ok(false);
        };
        let callback = "on_last_release";
        let service = self.service();
        tracing::debug!(service, pid = info.pid(), "calling on_last_release");
        let stop = async { stop(info).await };
        let called = run_to_end(service, callback, calling(self.client(), stop));
        match self.platform().timeout(grace.left(), called).await {
            Some(called) => called.map(|()| true),
            None => {
                let client = self.client();
                Err(client.timeout_error("`on_last_release`", grace.limit(), None))
            }
        }
    }

    /// Returns the instance as callbacks and clients see it.
    pub(super) async fn describe(&self, instance: &Instance) -> ServiceInfo {
        let client = self.client();
        describe(&client.platform, &client.key, instance).await
    }
}
