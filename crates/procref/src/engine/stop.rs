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

/// What there is to stop.
pub(super) enum Target<W: Platform> {
    Process(Arc<W::Process>),
    /// This very process.
    Hosted,
    /// Not a process of this machine.
    Remote,
}

impl<W: Platform> Transition<W> {
    /// Stopped means dead: returns when the instance's process is gone, whatever it takes. Under the
    /// lock; the instance stays published, as one that is stopping.
    ///
    /// What it returns is the callback's failure, after which procref stopped the service itself.
    pub(crate) async fn stop(
        &self,
        object: &Arc<ObjectOf<W>>,
        instance: Instance,
        generation: u16,
    ) -> Step<Option<Error>> {
        // To a process with another clock the instance looks dead: it would be cleared, and left running.
        self.platform().check_view(&self.client().key)?;
        let info = self.describe(&instance).await;
        let manner = self.stop_of(&instance).await;
        let Some(target) = self.target(&instance).await? else {
            return Ok(None);
        };
        // Before the first signal: if this process dies in the middle, nobody may take a service that has
        // been told to stop for one that serves. Also if it is written already: this process has its own time.
        object
            .publish_stopping(&instance, generation, manner.limit())
            .await?;
        crash::point(Point::PublishedStopping);
        Ok(self.end(target, info, manner).await?)
    }

    /// What there is to stop. `None`: it is dead, or nobody's to signal.
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
    pub(crate) async fn end_unpublished(&mut self) -> Result<()> {
        let Some((instance, info)) = self.unpublished.take() else {
            return Ok(());
        };
        match self.target(&instance).await? {
            Some(target) => {
                let complaint = self.end(target, info, self.config.stop()).await?;
                complaint.map_or(Ok(()), Err)
            }
            None => Ok(()),
        }
    }

    /// Waits until a service that could not be used has left no process. Its supervisor ends them.
    pub(crate) async fn wait_gone(&mut self) -> Result<()> {
        let Some(starting) = self.starting.take() else {
            return Ok(());
        };
        // As long as the supervisor needs at most: asking, killing, asking and killing what is left.
        let limit = self.config.drop_patience().saturating_mul(2);
        let platform = self.platform();
        let gone = starting.wait_tree_exit(limit);
        let gone = match self.client().known_object() {
            Some(object) => platform.resuming_supervisor(&object, gone).await?,
            None => gone.await?,
        };
        if !gone {
            let service = self.service();
            tracing::error!(
                service,
                "the service has left processes that cannot be ended"
            );
        }
        Ok(())
    }

    /// How the instance is stopped: as its starter said, where procref executed it, and as this client
    /// would otherwise.
    pub(crate) async fn stop_of(&self, instance: &Instance) -> StopPolicy {
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
        stop: StopPolicy,
    ) -> Result<Option<Error>> {
        let pid = info.pid();
        let grace = Deadline::after(stop.grace);
        let asked = self.ask_to_stop(info, grace).await;
        if !matches!(asked, Ok(false)) {
            crash::point(Point::StopCalledBack);
        }
        let process = match target {
            Target::Process(process) => process,
            Target::Hosted => return Ok(asked.err()),
            // Only the callback can tell whether it has stopped.
            Target::Remote => return asked.map(|_| None),
        };
        let by_callback = matches!(asked, Ok(true));
        let signal = (!by_callback).then_some(stop.signal);
        self.end_process(&process, pid, signal, grace).await?;
        Ok(asked.err())
    }

    /// Returns when it is gone. Without a signal it has been told to end already.
    pub(crate) async fn end_process(
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
            tracing::warn!(service, pid, grace = ?grace.limit(), "still alive after its grace: killed");
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

    /// True if a callback did it; false if there is none.
    async fn ask_to_stop(&self, info: ServiceInfo, grace: Deadline) -> Result<bool> {
        let Some(stop) = &self.config.stop else {
            return Ok(false);
        };
        let callback = "on_last_release";
        let service = self.service();
        tracing::debug!(service, pid = info.pid(), "calling on_last_release");
        let stop = async { stop(info).await };
        let asked = run_to_end(service, callback, calling(self.client(), stop));
        match self.platform().timeout(grace.left(), asked).await {
            Some(asked) => asked.map(|()| true),
            None => Err(Error::Timeout {
                service: service.to_owned(),
                operation: "`on_last_release`",
                limit: grace.limit(),
                holder: None,
                suspended: false,
            }),
        }
    }

    /// The instance as callbacks and clients are told of it.
    pub(crate) async fn describe(&self, instance: &Instance) -> ServiceInfo {
        let client = self.client();
        describe(&client.platform, &client.key, instance).await
    }
}
