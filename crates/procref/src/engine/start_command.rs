//! Under the lock: starting a service that procref executes itself.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::platform::{ObjectOf, Platform};
use super::recursion::calling;
use super::resolved_instance::ResolvedInstance;
use super::shared_wait::SharedWait;
use super::transition::Transition;
use crate::command::ServiceCommand;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Instance, Object, Snapshot, Step};
use crate::launch::LaunchSpec;
use crate::process::Identity;
use crate::ready::Callback;
use crate::record::{Executed, Record};
use crate::runtime::deadline::Deadline;

/// How long a callback is given before it is asked again whether the service is ready.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl<W: Platform> Transition<W> {
    pub(crate) async fn execute(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        snapshot: Snapshot,
        command: &Arc<ServiceCommand>,
        begun: Instant,
    ) -> Step<Arc<ResolvedInstance<W>>> {
        self.platform().check_record(&self.client().key).await?;
        self.stop_leftover(object, snapshot).await?;
        let deadline = Deadline::after(self.config.start_timeout);
        let generation = snapshot.next_generation();
        self.launch(object, command, generation).await?;
        match self.bring_up(object, command, generation, deadline).await {
            Ok(current) => {
                let (service, pid, port) =
                    (self.service(), current.info.pid(), current.info.port());
                tracing::info!(service, pid, port, generation, elapsed = ?begun.elapsed(), "started");
                Ok(current)
            }
            Err(Fault::Removed) => {
                // Its supervisor has noticed, too, and ends it. Nothing is started beside that.
                self.wait_gone().await?;
                Err(Fault::Removed)
            }
            // It is stopped when the lock is given back.
            Err(refused) => Err(refused),
        }
    }

    /// Forks supervisor and service. When this returns, the instance is published, not as ready, and its
    /// program waits to be executed.
    async fn launch(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        command: &Arc<ServiceCommand>,
        generation: u16,
    ) -> Step<()> {
        let spec = LaunchSpec {
            instance: self.unready(),
            generation,
            stop: self.config.stop(),
            patience: self.config.start_timeout,
        };
        let client = Arc::clone(self.client());
        tracing::debug!(service = self.service(), "launching the service");
        if command.lacks_readiness() {
            tracing::warn!(
                service = self.service(),
                "nothing tells when the service is ready: it has neither a port nor `ready`, so its clients \
                 may run before it can serve them, or although it has failed (set `ready`; `started` if this \
                 is right)"
            );
        }
        let launching = client
            .platform
            .launch(&client.key, object, Arc::clone(command), spec);
        self.launching = Some(Mutex::new(launching));
        // The new supervisor waits until the processes of an older one are gone, and this client for the new one.
        if let Err(error) = client.platform.resuming(object, self.launched()).await {
            // If that is because somebody removed the set, it is no error.
            let snapshot = object.snapshot().await?;
            let error = match late(&error) && snapshot.tree {
                true => self.blocked_by_supervisor(object, error).await?,
                false => error,
            };
            return Err(error.into());
        }
        crash::point(Point::Launched);
        Ok(())
    }

    /// The error of a launch for which the processes of an older instance were not gone in time. It names the supervisor
    /// that has to end them.
    async fn blocked_by_supervisor(&self, object: &Arc<ObjectOf<W>>, error: Error) -> Step<Error> {
        let Some(pid) = object.supervisor().await? else {
            return Ok(error);
        };
        let blocker = self.platform().blocker(object).await;
        Ok(Error::Timeout {
            service: self.service().to_owned(),
            operation: "waiting until the supervisor of the last instance has ended its processes",
            limit: self.config.start_timeout,
            holder: Some(pid),
            suspended: blocker.is_some_and(|it| it.suspended && it.pid == pid),
        })
    }

    /// The instance of a launch, before its process exists.
    fn unready(&self) -> Instance {
        Instance {
            identity: Identity { pid: 0, start: 0 },
            port: 0,
            ready: false,
            stopping: false,
            hosted: false,
            has_metadata: self.config.is_told_by_record(),
            command: true,
            keep_orphan: false,
            linger_ms: self.config.linger_ms,
        }
    }

    /// Sees a launch to its end.
    pub(crate) async fn launched(&mut self) -> Result<()> {
        let done = std::future::poll_fn(|context| match &mut self.launching {
            Some(launching) => {
                let launching = launching.get_mut().unwrap_or_else(PoisonError::into_inner);
                launching.as_mut().poll(context).map(Some)
            }
            None => Poll::Ready(None),
        })
        .await;
        self.launching = None;
        if let Some(running) = done {
            self.running = Some(Arc::new(running?));
            self.lock_shared = true;
        }
        Ok(())
    }

    async fn bring_up(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        command: &Arc<ServiceCommand>,
        generation: u16,
        deadline: Deadline,
    ) -> Step<Arc<ResolvedInstance<W>>> {
        let Some(running) = self.running.clone() else {
            return Err(Fault::Removed);
        };
        let client = Arc::clone(self.client());
        let platform = &client.platform;
        let unready = platform.launched(&running);
        let identity = unready.identity;
        let info = ServiceInfo::new(identity.pid, unready.port).identified(identity.start);
        let stop = self.config.stop();
        let record = Record::new(&client.key, identity, &info)
            .with_fingerprint(self.config.own_fingerprint())
            .with_definition(self.config.definition.clone())
            .executed(Executed {
                line: command.line(),
                log: command.log_path(&client.key),
                stop_signal: stop.signal.to_string(),
                grace_ms: u64::try_from(stop.grace.as_millis()).unwrap_or(u64::MAX),
            });
        platform.write_record(&client.key, &record).await?;
        crash::point(Point::Recorded);
        let asked = platform.resuming(object, platform.run(&running, deadline));
        let asked = asked.await?;
        let found = platform.look_up(identity.pid).await?;
        let process = found
            .filter(|(found, _)| *found == identity)
            .map(|(_, process)| Arc::new(process));
        let candidate = ResolvedInstance {
            instance: unready,
            generation,
            info,
            fingerprint: self.config.own_fingerprint(),
            definition: self.config.definition.clone(),
            process,
            death: SharedWait::default(),
        };
        let vetted = {
            let vetted = pin!(self.ask(&running, &candidate, asked, deadline));
            let alarm = pin!(platform.resuming(object, platform.alarm(&running)));
            unless(alarm, vetted).await?
        };
        let dead = match &candidate.process {
            Some(process) => !platform.is_alive(process).await,
            None => true,
        };
        if dead {
            // That is what went wrong, whatever the answers were.
            let alarm = platform.resuming(object, platform.alarm(&running));
            return Err(alarm.await.into());
        }
        vetted?;
        Ok(Arc::new(ResolvedInstance {
            instance: self.publish_ready(unready, generation).await?,
            ..candidate
        }))
    }

    /// What is asked of a service whose program runs, before anybody is let in.
    async fn ask(
        &self,
        running: &Arc<W::Running>,
        candidate: &ResolvedInstance<W>,
        asked: Option<Callback>,
        deadline: Deadline,
    ) -> Result<()> {
        let client = self.client();
        if let Some(ask) = asked {
            let until_ready = async {
                while !calling(client, ask(&candidate.info)).await {
                    client.platform.pause(ASK_AGAIN).await;
                }
            };
            let ready = client.platform.within(deadline.left(), until_ready).await;
            ready.ok_or_else(|| client.platform.late(running, deadline.limit()))?;
        }
        // An instance that its joiners would find unwell, they would stop under each other.
        if let Some(command) = &self.config.command {
            let port = candidate.info.port();
            let sick = client
                .platform
                .ask_health(&client.key, command, port)
                .await?;
            if let Some(sick) = sick {
                return Err(client.platform.unwell(running, sick));
            }
        }
        self.verify_ready("ready", candidate).await
    }
}

/// Returns `true` if a supervisor has waited in vain.
fn late(error: &Error) -> bool {
    matches!(error, Error::Supervisor { source, .. } if source.kind() == std::io::ErrorKind::TimedOut)
}

/// What comes of `vetted`, unless the alarm goes first. Where it need not wait, nothing listens for that.
async fn unless<T>(
    mut alarm: Pin<&mut impl Future<Output = Error>>,
    mut vetted: Pin<&mut impl Future<Output = T>>,
) -> Result<T> {
    std::future::poll_fn(|context| match vetted.as_mut().poll(context) {
        Poll::Pending => alarm.as_mut().poll(context).map(Err),
        Poll::Ready(done) => Poll::Ready(Ok(done)),
    })
    .await
}
