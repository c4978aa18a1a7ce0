//! Pins a service, so that it is kept without clients, and unpins it.

use std::sync::Arc;

use super::client::{Access, Client};
use super::config::Config;
use super::handle::HandleInner;
use super::platform::Platform;
use super::transition::Transition;
use crate::crash::{self, Point};
use crate::error::Result;
use crate::kernel::{Fault, Missing, Object, Step, Supervised};
use crate::runtime::deadline::Patience;

impl<W: Platform> HandleInner<W> {
    pub(crate) async fn pin(&self) -> Result<()> {
        let operation = "pin it";
        self.check_ours(operation)?;
        let Some(object) = self.client().known_object() else {
            return Err(self.lost(operation));
        };
        match object.pin().await {
            Ok(()) => {
                crash::point(Point::Pinned);
                tracing::info!(service = self.client().key.name(), "pinned");
                Ok(())
            }
            Err(Fault::Removed) => Err(self.lost(operation)),
            Err(Fault::Refused(error)) => Err(error),
        }
    }
}

/// Removes the pin. Returns `true` if the service was pinned. If no other process holds the service, this stops it or
/// leaves it to its supervisor, as the last client does.
///
/// To unpin, this takes a reference first and releases it afterwards. Without a reference, the last client
/// could leave between the removal of the pin and the check for clients. That client would rely on the pin,
/// and no process would stop the service.
pub(crate) async fn unpin<W: Platform>(
    client: &Arc<Client<W>>,
    config: &Arc<Config>,
) -> Result<bool> {
    let patience = config.patience();
    let mut transition = match client.access(None).await {
        Access::Exclusive(permit) => Transition::begin(permit, config),
        Access::Shared(current) => {
            let handle = HandleInner::new(client, config, current);
            let unpinned = match client.known_object() {
                Some(object) => object.unpin().await,
                None => Ok(false),
            };
            crash::point(Point::UnpinnedByHolder);
            if let Some(release) = handle.release() {
                release.await?;
            }
            return match unpinned {
                Ok(unpinned) => Ok(log(client, unpinned)),
                Err(Fault::Removed) => Ok(false),
                Err(Fault::Refused(error)) => Err(error),
            };
        }
    };
    loop {
        match transition.attempt_unpin(patience).await {
            Ok(Some(unpinned)) => {
                log(client, unpinned);
                return transition.release().await.map(|()| unpinned);
            }
            Ok(None) => {}
            Err(Fault::Removed) => transition.forget(),
            Err(Fault::Refused(error)) => {
                transition.release_after_failure().await;
                return Err(error);
            }
        }
    }
}

fn log<W: Platform>(client: &Client<W>, unpinned: bool) -> bool {
    if unpinned {
        tracing::info!(service = client.key.name(), "unpinned");
    }
    unpinned
}

impl<W: Platform> Transition<W> {
    /// Makes one attempt to remove the pin. Returns `None` if the state has changed and the caller must retry.
    async fn attempt_unpin(&mut self, patience: Patience) -> Step<Option<bool>> {
        let Some(object) = self.object(Missing::Ignore).await? else {
            return Ok(Some(false));
        };
        if !self.has_reference() {
            let snapshot = object.snapshot().await?;
            if !snapshot.pinned {
                return Ok(Some(false));
            }
            if snapshot.locked {
                let client = self.client();
                client.wait_unlocked(&object, &snapshot, patience).await?;
                return Ok(None);
            }
            let referenced = if snapshot.clients > 0 {
                self.join(Supervised::No, Point::ReferredToUnpin).await?
            } else {
                self.try_enter(Point::ReferredToUnpin).await?
            };
            if !referenced {
                return Ok(None);
            }
        }
        let unpinned = object.unpin().await?;
        crash::point(Point::Unpinned);
        Ok(Some(unpinned))
    }
}
