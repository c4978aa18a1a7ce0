//! Starts an instance that procref executes itself, with the lock held.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::platform::{ObjectOf, Platform, Readiness, ServiceStart as _, find_identity};
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

/// Pause before a callback is called again to find out whether the service is ready.
const RETRY_CALLBACK: Duration = Duration::from_millis(20);

impl<W: Platform> Transition<W> {
    pub(super) async fn start_command(
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
                // The supervisor also notices the removal, and stops the service. R2: no other instance
                // starts before that.
                self.wait_tree_exit().await?;
                Err(Fault::Removed)
            }
            // The release of the transition stops the instance.
            Err(refused) => Err(refused),
        }
    }

    /// Forks supervisor and service. When this returns, the instance is published as not ready, and the service waits
    /// at its gate.
    async fn launch(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        command: &Arc<ServiceCommand>,
        generation: u16,
    ) -> Step<()> {
        let spec = LaunchSpec {
            instance: self.unready(),
            generation,
            stop: self.config.stop().spec(),
            patience: self.config.start_timeout,
        };
        let client = Arc::clone(self.client());
        tracing::debug!(service = self.service(), "launching the service");
        if command.lacks_readiness() {
            tracing::warn!(
                service = self.service(),
                "no readiness check: the service has neither a port nor `ready`, so clients may use it before it \
                 serves, or after it has failed (set `ready`; set it to `started` if this is intended)"
            );
        }
        let launching =
            client
                .platform
                .launch(&client.key, object, Arc::clone(command), spec, self.caller);
        self.launching = Some(Mutex::new(launching));
        // The new supervisor waits until the processes of an older instance have exited, and this client waits for the
        // new supervisor. So a suspended supervisor of the older instance is continued.
        if let Err(error) = client
            .platform
            .resuming_supervisor(object, self.finish_launch())
            .await
        {
            // If the object was removed from outside, this read fails, and its error replaces the error of
            // the launch.
            let snapshot = object.snapshot().await?;
            let error = match is_timeout(&error) && snapshot.tree {
                true => self.blocked_by_supervisor(object, error).await?,
                false => error,
            };
            return Err(error.into());
        }
        crash::point(Point::Launched);
        Ok(())
    }

    /// Returns the error of a launch that timed out because the processes of an older instance had not
    /// exited. The error names the supervisor that must stop them.
    async fn blocked_by_supervisor(&self, object: &Arc<ObjectOf<W>>, error: Error) -> Step<Error> {
        let Some(pid) = object.supervisor().await? else {
            return Ok(error);
        };
        let blocker = self.platform().blocker(object).await;
        Ok(Error::Timeout {
            service: self.service().to_owned(),
            operation: "waiting until the supervisor of the last instance has stopped the processes of that instance",
            limit: self.config.start_timeout,
            holder: Some(pid),
            suspended: blocker.is_some_and(|it| it.suspended && it.pid == pid),
        })
    }

    /// Returns the instance of a launch, before its process exists.
    fn unready(&self) -> Instance {
        Instance {
            identity: Identity { pid: 0, start: 0 },
            port: 0,
            ready: false,
            stopping: false,
            hosted: false,
            has_metadata: self.config.needs_record(),
            command: true,
            keep_orphan: false,
            linger_ms: self.config.linger_ms,
        }
    }

    /// Waits until a launch that has begun is finished.
    pub(super) async fn finish_launch(&mut self) -> Result<()> {
        let done = std::future::poll_fn(|context| match &mut self.launching {
            Some(launching) => {
                let launching = launching.get_mut().unwrap_or_else(PoisonError::into_inner);
                launching.as_mut().poll(context).map(Some)
            }
            None => Poll::Ready(None),
        })
        .await;
        self.launching = None;
        if let Some(starting) = done {
            self.starting = Some(Arc::new(starting?));
            self.lock_shared = true;
        }
        Ok(())
    }

    /// Writes the record, executes the program, waits until it is ready, and publishes it.
    async fn bring_up(
        &mut self,
        object: &Arc<ObjectOf<W>>,
        command: &Arc<ServiceCommand>,
        generation: u16,
        deadline: Deadline,
    ) -> Step<Arc<ResolvedInstance<W>>> {
        let Some(starting) = self.starting.clone() else {
            return Err(Fault::Removed);
        };
        let client = Arc::clone(self.client());
        let platform = &client.platform;
        let unready = starting.instance();
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
        let readiness = platform.resuming_supervisor(object, starting.run(deadline, self.caller));
        let Readiness { callback, notified } = readiness.await?;
        let mut unready = unready;
        let mut info = info;
        if !notified.is_empty() {
            info = info.notified(notified);
            unready.port = info.port();
            unready.has_metadata |= info.metadata().next().is_some();
            // The record is complete before the instance is published as ready. If READY came first, a client could
            // join in between and would not find the metadata, and after a death of this process no client would.
            platform
                .write_record(&client.key, &record.with_info(&info))
                .await?;
            crash::point(Point::RecordedNotified);
        }
        let process = find_identity(platform, identity).await?.map(Arc::new);
        let candidate = ResolvedInstance {
            instance: unready,
            generation,
            info,
            fingerprint: self.config.own_fingerprint(),
            definition: self.config.definition.clone(),
            process,
            death: SharedWait::default(),
            rejoin: OnceLock::new(),
        };
        let verified = {
            let verified = pin!(self.verify_executed(&starting, &candidate, callback, deadline));
            let exit = pin!(platform.resuming_supervisor(object, starting.early_exit()));
            unless(exit, verified).await?
        };
        if !candidate.is_alive().await {
            // The exit is the cause of the failure. The result of the checks does not matter.
            let exit = platform.resuming_supervisor(object, starting.early_exit());
            return Err(exit.await.into());
        }
        verified?;
        Ok(Arc::new(ResolvedInstance {
            instance: self.publish_ready(unready, generation).await?,
            ..candidate
        }))
    }

    /// Checks a service whose program runs, before other clients may use it.
    async fn verify_executed(
        &self,
        starting: &Arc<W::StartingService>,
        candidate: &ResolvedInstance<W>,
        callback: Option<Callback>,
        deadline: Deadline,
    ) -> Result<()> {
        let client = self.client();
        if let Some(is_ready) = callback {
            let until_ready = async {
                while !calling(client, is_ready(&candidate.info)).await {
                    client.platform.sleep(RETRY_CALLBACK).await;
                }
            };
            let ready = client.platform.timeout(deadline.left(), until_ready).await;
            ready.ok_or_else(|| starting.not_ready_error(deadline.limit()))?;
        }
        // Clients that join run the same check. If an instance that fails the check were published, each
        // client would stop the instance that another client has just started.
        if let Some(command) = &self.config.command {
            let port = candidate.info.port();
            let failed = client
                .platform
                .check_health(&client.key, command, port)
                .await?;
            if let Some(failed) = failed {
                return Err(starting.unhealthy_error(failed));
            }
        }
        self.verify_ready("ready", candidate).await
    }
}

/// Returns `true` if a supervisor's wait has timed out.
fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Supervisor { source, .. } if source.kind() == std::io::ErrorKind::TimedOut)
}

/// Returns the output of `verified`, unless the service exits first. If `verified` is ready at once, `exit` is not
/// polled, and needs no thread.
async fn unless<T>(
    mut exit: Pin<&mut impl Future<Output = Error>>,
    mut verified: Pin<&mut impl Future<Output = T>>,
) -> Result<T> {
    std::future::poll_fn(|context| match verified.as_mut().poll(context) {
        Poll::Pending => exit.as_mut().poll(context).map(Err),
        Poll::Ready(done) => Poll::Ready(Ok(done)),
    })
    .await
}
