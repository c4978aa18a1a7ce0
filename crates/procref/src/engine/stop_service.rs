//! Stops a service on demand, even while clients hold it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::config::Config;
use super::platform::{Blocker, CHECK_SUSPENDED, ObjectOf, Platform};
use super::shared_wait::SharedWait;
use super::transition::Transition;
use crate::crash::{self, Point};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Lock, Missing, Object, Snapshot, Step};
use crate::process::KILL_TIMEOUT;
use crate::runtime::deadline::Patience;

/// The behavior if clients hold the service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfHeld {
    /// Return an error.
    Refuse,
    /// Stop the service anyway.
    Override,
}

/// Stops the service and removes its pin. Returns `true` if it ran or was pinned.
///
/// This takes the lock and a reference, like a client that enters. With the lock alone, the last holder could
/// die before the lock is released, and no process would remove the object. One step releases both, if other
/// processes hold the service. Otherwise this process leaves as the last one.
pub(crate) async fn stop<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
    if_held: IfHeld,
) -> Result<bool> {
    let patience = config.patience();
    let mut transition = Transition::begin(client.permit().await, config);
    let mut stopped = Stopped::default();
    loop {
        match transition
            .attempt_stop(if_held, patience, &mut stopped)
            .await
        {
            Ok(true) => {
                let released = transition.release().await;
                return match stopped.callback_error {
                    Some(error) => Err(error),
                    None => released.map(|()| stopped.any),
                };
            }
            Ok(false) => {}
            // Other processes have stopped the service, or its object was removed from outside.
            Err(Fault::Removed) => transition.forget(),
            Err(Fault::Refused(error)) => {
                transition.release_after_failure().await;
                return Err(error);
            }
        }
    }
}

/// Runs a future that waits for other processes. If the process that they all wait for is suspended, this
/// returns its pid instead. `stop` must return in limited time, but a suspended process may never continue.
async fn unless_suspended<W: Platform, T>(
    platform: &W,
    object: &ObjectOf<W>,
    future: impl Future<Output = T> + Send,
) -> Result<T, u32> {
    let mut future = pin!(future);
    loop {
        // A suspended supervisor is not a reason to return, because this client continues it.
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
    /// An instance was stopped, or a pin was removed.
    any: bool,
    /// The error of the callback. The instance is dead anyway.
    callback_error: Option<Error>,
}

impl<W: Platform> Transition<W> {
    /// Makes one attempt to stop the service. Returns `false` if the state has changed and the caller must retry.
    async fn attempt_stop(
        &mut self,
        if_held: IfHeld,
        patience: Patience,
        stopped: &mut Stopped,
    ) -> Step<bool> {
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Ok(true);
        };
        let snapshot = object.snapshot().await?;
        // This check comes before any step, because the clients that hold the service must not notice a
        // refused stop.
        if !self.is_in_transition(&snapshot) {
            self.check_held(if_held, &object, &snapshot).await?;
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
        // Check again, because a client may have joined before the lock was taken. No client can join while
        // this process holds the lock.
        let snapshot = object.snapshot().await?;
        self.check_held(if_held, &object, &snapshot).await?;
        if !snapshot.claimed {
            object.claim().await?;
        }
        // The pin is removed first. If this process dies after that, the service stops with its last client,
        // like any other service. If the instance were stopped first, a death would leave an instance that is
        // stopping and pinned.
        if snapshot.pinned {
            stopped.any |= object.unpin().await?;
        }
        crash::point(Point::UnpinnedToStop);
        self.stop_instance(&object, &snapshot, stopped).await?;
        self.supervise_for_holders(&object).await?;
        Ok(true)
    }

    fn suspended(&self, holder: u32) -> Error {
        Error::Suspended {
            service: self.service().to_owned(),
            holder,
        }
    }

    /// Starts a supervisor for the clients that still hold the service. If they are killed, it removes the object. The
    /// supervisor that was the instance's parent has exited with the instance.
    async fn supervise_for_holders(&self, object: &Arc<ObjectOf<W>>) -> Step<()> {
        let snapshot = object.snapshot().await?;
        let held = snapshot.clients > 1 || self.permit().has_other_handles();
        if !held || snapshot.supervised {
            return Ok(());
        }
        if let Err(error) = self.supervise(object, self.config.stop()).await {
            let service = self.service();
            tracing::warn!(service, %error, "no supervisor; if the holders are killed, the kernel object remains");
        }
        Ok(())
    }

    /// Stops the instance with all its processes, and clears it. The object stays for the clients that hold it. Call
    /// this with the lock held.
    async fn stop_instance(
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
        let generation = snapshot.generation;
        stopped.callback_error = self.stop(object, instance, generation).await?;
        self.wait_tree_exited(object, grace).await?;
        // This is the order of the last client: clear, unlink.
        object.publish(None, generation, Lock::Keep).await?;
        crash::point(Point::ClearedToStop);
        let key = &self.client().key;
        // No client can enter while the lock is held, so the snapshot has all clients. If they leave after
        // the snapshot, the release of this reference removes the record with the object.
        if snapshot.clients > 1 || self.permit().has_other_handles() {
            self.platform().keep_name(key).await;
        } else {
            self.platform().remove_record(key).await;
        }
        Ok(())
    }

    /// Waits until the supervisor has stopped the instance's other processes, if it is their parent.
    ///
    /// The exit of the supervisor would be the wrong event: it stays if other clients hold the service.
    async fn wait_tree_exited(&self, object: &Arc<ObjectOf<W>>, grace: Duration) -> Step<()> {
        // The longest time that the supervisor needs: to stop and to kill the processes.
        let limit = grace.saturating_add(KILL_TIMEOUT);
        let platform = self.platform();
        let waited_on = Arc::clone(object);
        let exited = async move {
            match waited_on.wait_tree_exited().await {
                Ok(()) | Err(Fault::Removed) => Ok(()),
                Err(Fault::Refused(error)) => Err(error),
            }
        };
        let waiting = SharedWait::default();
        let purpose = "wait for the exit of the service's processes";
        let exited = waiting.wait(&platform, purpose, exited);
        let exited = platform.resuming_supervisor(object, exited);
        match platform.timeout(limit, exited).await {
            Some(exited) => Ok(exited?),
            None => {
                let service = self.service();
                tracing::error!(service, "the service has left processes that did not exit");
                Ok(())
            }
        }
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

    /// Returns an error if another process holds the service, or another handle of this process does.
    async fn check_held(
        &self,
        if_held: IfHeld,
        object: &Arc<ObjectOf<W>>,
        snapshot: &Snapshot,
    ) -> Step<()> {
        let ours = u32::from(self.has_reference());
        let handles = self.permit().has_other_handles();
        let clients = snapshot.clients - ours.min(snapshot.clients) + u32::from(handles);
        if if_held == IfHeld::Override || clients == 0 {
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
