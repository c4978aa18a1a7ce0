//! Stopping a service on demand, held or not.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use super::client::Client;
use super::config::Config;
use super::platform::{Blocker, CHECK_SUSPENDED, ObjectOf, Platform, ServiceProcess as _};
use super::transition::Transition;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Lock, Missing, Object, Snapshot, Step};
use crate::process::KILL_TIMEOUT;
use crate::runtime::deadline::Patience;

/// Whether a service is stopped although clients hold it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Refuse,
    Override,
}

/// Stops the service, and takes its pin away; true if there was one.
///
/// Done with the lock and a reference, as a client that enters has them. With the lock alone the last
/// holder could die in the middle, and leave a set to nobody: giving both back is one step, which tells
/// whether somebody else holds the service still, and if not, this is the last leaver.
pub(crate) async fn stop<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    held: Held,
) -> Result<bool> {
    let patience = config.patience();
    let mut transition = Transition::begin(client.permit().await, config);
    let mut stopped = Stopped::default();
    loop {
        match transition.attempt_stop(held, patience, &mut stopped).await {
            Ok(true) => {
                let departed = transition.release().await;
                return match stopped.complaint {
                    Some(complaint) => Err(complaint),
                    None => departed.map(|()| stopped.any),
                };
            }
            Ok(false) => {}
            // Others have stopped it, or somebody removed its object.
            Err(Fault::Removed) => transition.forget(),
            Err(Fault::Refused(error)) => {
                transition.release_after_failure().await;
                return Err(error);
            }
        }
    }
}

/// Waits for other processes, unless the process that they all wait for is suspended: then it returns that. A process
/// that stops a service is to clean up, and is not to wait for what may never come.
async fn unless_suspended<W: Platform, T>(
    platform: &W,
    object: &ObjectOf<W>,
    future: impl Future<Output = T> + Send,
) -> Result<T, u32> {
    let mut future = pin!(future);
    loop {
        // A supervisor that is suspended is continued.
        platform.resume_supervisor(object).await;
        if let Some(Blocker {
            pid,
            suspended: true,
        }) = platform.blocker(object).await
        {
            return Err(pid);
        }
        if let Some(output) = platform.timeout(CHECK_SUSPENDED, future.as_mut()).await {
            return Ok(output);
        }
    }
}

#[derive(Default)]
struct Stopped {
    /// There was something to stop, or a pin to take away.
    any: bool,
    /// What went wrong with the callback. The instance is gone all the same.
    complaint: Option<Error>,
}

impl<W: Platform> Transition<W> {
    /// One step towards a service that does not run. False: look again.
    async fn attempt_stop(
        &mut self,
        held: Held,
        patience: Patience,
        stopped: &mut Stopped,
    ) -> Step<bool> {
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Ok(true);
        };
        let snapshot = object.snapshot().await?;
        // Before anything is taken: whom others hold is not to notice that somebody asked.
        if !self.is_in_transition(&snapshot) {
            self.check_held(held, &object, &snapshot).await?;
        }
        let locked = if self.has_reference() {
            self.try_lock(Point::EnteredToStop).await?
        } else {
            self.try_enter(Point::EnteredToStop).await?
        };
        if !locked {
            if snapshot.locked {
                let client = self.client();
                let unlocked = client.wait_unlocked(&object, &snapshot, patience);
                let unlocked = unless_suspended(&client.platform, &object, unlocked).await;
                unlocked.map_err(|pid| self.suspended(pid))??;
            }
            return Ok(false);
        }
        // Somebody may have come in between. From here on nobody can.
        let snapshot = object.snapshot().await?;
        self.check_held(held, &object, &snapshot).await?;
        if !snapshot.claimed {
            object.claim().await?;
        }
        // The pin first. A death in between leaves a service that ends with its last client, as any; the
        // other way round it would leave one that is kept, and stopping.
        if snapshot.pinned {
            stopped.any |= object.unpin().await?;
        }
        crash::point(Point::UnpinnedToStop);
        self.stop_whole(&object, &snapshot, stopped).await?;
        self.supervise_for_holders(&object).await?;
        Ok(true)
    }

    fn suspended(&self, holder: u32) -> Error {
        Error::Suspended {
            service: self.service().to_owned(),
            holder,
        }
    }

    /// The supervisor that was the instance's parent has gone with it. Those who hold the service still may
    /// be killed, and then somebody has to remove the set.
    async fn supervise_for_holders(&self, object: &Arc<ObjectOf<W>>) -> Step<()> {
        let snapshot = object.snapshot().await?;
        let held = snapshot.clients > 1 || self.permit().has_other_handles();
        if !held || snapshot.supervised {
            return Ok(());
        }
        if let Err(error) = self.supervise(object, self.config.stop()).await {
            let service = self.service();
            tracing::warn!(service, %error, "nobody will clean up if its holders are killed");
        }
        Ok(())
    }

    /// Under the lock: ends the instance with all its processes, and clears it. The set stays for those
    /// who hold it.
    async fn stop_whole(
        &self,
        object: &Arc<ObjectOf<W>>,
        snapshot: &Snapshot,
        stopped: &mut Stopped,
    ) -> Step<()> {
        let Some(instance) = self.leftover(snapshot).await? else {
            return Ok(());
        };
        stopped.any = true;
        let grace = self.stop_of(&instance).await.grace;
        let parent = self.parent(object, snapshot).await?;
        let generation = snapshot.generation;
        stopped.complaint = self.stop(object, instance, generation).await?;
        if let Some(parent) = parent {
            // It ends what the instance has left, and resigns, because there is a reference: ours. As long
            // as it needs at most: asking, and killing.
            let limit = grace.saturating_add(KILL_TIMEOUT);
            let platform = self.platform();
            if !platform
                .resuming_supervisor(object, parent.wait(limit))
                .await?
            {
                let service = self.service();
                tracing::error!(service, "it has left processes that cannot be ended");
            }
        }
        // In this order, as the last client does it.
        object.publish(None, generation, Lock::Keep).await?;
        crash::point(Point::ClearedToStop);
        let key = &self.client().key;
        // No client enters while the lock is held, so those of the snapshot are all that there can be. If
        // they have left since, the departure of this reference removes the record with the set.
        if snapshot.clients > 1 || self.permit().has_other_handles() {
            self.platform().keep_name(key).await;
        } else {
            self.platform().remove_record(key).await;
        }
        Ok(())
    }

    /// The supervisor that is the parent of the instance's processes.
    async fn parent(
        &self,
        object: &Arc<ObjectOf<W>>,
        snapshot: &Snapshot,
    ) -> Step<Option<Arc<W::Process>>> {
        if !snapshot.tree {
            return Ok(None);
        }
        let Some(pid) = object.inspect().await?.supervisor else {
            return Ok(None);
        };
        let found = self.platform().find_process(pid).await?;
        Ok(found.map(|(_, process)| Arc::new(process)))
    }

    /// Returns `true` if another process is stopping the service, or is the only client and is starting or stopping it.
    ///
    /// A process that stops the service holds a reference, which ends with the stop. So `stop` waits for the lock
    /// before it counts the clients.
    fn is_in_transition(&self, snapshot: &Snapshot) -> bool {
        let is_stopping = snapshot.instance.is_some_and(|it| it.stopping);
        let is_alone = snapshot.clients == 1;
        snapshot.locked && !self.permit().has_other_handles() && (is_stopping || is_alone)
    }

    /// An error if anybody but this call holds the service.
    async fn check_held(
        &self,
        held: Held,
        object: &Arc<ObjectOf<W>>,
        snapshot: &Snapshot,
    ) -> Step<()> {
        let ours = u32::from(self.has_reference());
        let handles = self.permit().has_other_handles();
        let clients = snapshot.clients - ours.min(snapshot.clients) + u32::from(handles);
        if held == Held::Override || clients == 0 {
            return Ok(());
        }
        let mut holders = object.inspect().await?.holders;
        let own = self.platform().own_pid();
        holders.retain(|&pid| handles || pid != own);
        Err(Fault::Refused(Error::Held {
            service: self.service().to_owned(),
            clients,
            holders,
        }))
    }
}
