//! What became of the service: who serves now, when an instance died, when all is over.

use std::sync::Arc;

use super::client::Client;
use super::describe::describe;
use super::handle::HandleInner;
use super::platform::{ObjectOf, Platform, ServiceProcess as _, find_identity};
use super::resolved_instance::ResolvedInstance;
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Instance, Kernel, Missing, Object, Snapshot, Step};

impl<W: Platform> HandleInner<W> {
    /// The instance that serves now, if one does.
    pub(crate) async fn serving(&self) -> Result<Option<ServiceInfo>> {
        self.check_ours("look at it")?;
        let client = self.client();
        // The object that the handle's reference is on; or, if somebody removed that, the one that others
        // have made since. That one is not kept: nothing here is a reference to it.
        let mut object = client.known_object();
        loop {
            let Some(looked_at) = object.take() else {
                match open(client).await? {
                    Some(opened) => object = Some(opened),
                    None => return Ok(None),
                }
                continue;
            };
            match self.serving_on(&looked_at).await {
                Err(Fault::Removed) => {}
                Err(Fault::Refused(error)) => return Err(error),
                Ok(info) => return Ok(info),
            }
        }
    }

    async fn serving_on(&self, object: &ObjectOf<W>) -> Step<Option<ServiceInfo>> {
        let client = self.client();
        let snapshot = object.snapshot().await?;
        let Some(instance) = snapshot.instance.filter(Instance::is_serving) else {
            return Ok(None);
        };
        let same = |current: &ResolvedInstance<W>| {
            current.instance == instance && current.generation == snapshot.generation
        };
        let known = [Some(Arc::clone(self.shared())), client.known()];
        let Some(known) = known.into_iter().flatten().find(|it| same(it)) else {
            if is_dead(&client.platform, &instance).await? {
                return Ok(None);
            }
            return Ok(Some(
                describe(&client.platform, &client.key, &instance).await,
            ));
        };
        let alive = match &known.process {
            Some(process) => process.is_alive().await,
            None => instance.identity.pid == 0,
        };
        Ok(alive.then(|| known.info.clone()))
    }

    /// Waits for the end of the instance that the handle was acquired with.
    pub(crate) async fn wait_dead(&self) -> Result<()> {
        self.check_ours("wait for its end")?;
        let (client, current) = (self.client(), self.current());
        let Some(process) = &current.process else {
            if current.instance.identity.pid != 0 {
                return Ok(());
            }
            return Err(Error::InvalidSetting {
                service: client.key.name().to_owned(),
                setting: "wait_dead",
                reason: "it has no local process (pid 0), so only a health check can tell whether it lives"
                    .to_owned(),
            });
        };
        while process.is_alive().await {
            let process = Arc::clone(process);
            let ended = async move { process.wait_exit().await };
            let purpose = "wait for the service's death";
            current.death.wait(&client.platform, purpose, ended).await?;
        }
        Ok(())
    }
}

/// Waits until the service does not run any more and nothing is left of it.
pub(crate) async fn wait_stopped<W: Platform>(client: &Arc<Client<W>>) -> Result<()> {
    let Some(object) = open(client).await? else {
        return Ok(());
    };
    loop {
        match object.snapshot().await {
            Ok(snapshot) if is_over(client, &snapshot).await? => return Ok(()),
            Ok(_) => {}
            // What others have started since is another run.
            Err(Fault::Removed) => return Ok(()),
            Err(Fault::Refused(error)) => return Err(error),
        }
        // What is waited for is mostly its work. One that is suspended later is not looked for: this may wait for days.
        client.platform.resume_supervisor(&object).await;
        // Keeps the seat, and with it the watch, for who comes later.
        let (kept, object) = (Arc::clone(client), Arc::clone(&object));
        let removed = async move {
            let removed = object.wait_removed().await;
            drop(kept);
            match removed {
                Err(Fault::Refused(error)) => Err(error),
                Ok(()) | Err(Fault::Removed) => Ok(()),
            }
        };
        let purpose = "wait until the service has stopped";
        client
            .removal
            .wait(&client.platform, purpose, removed)
            .await?;
    }
}

/// Whether nothing runs, and nobody is going to remove the object: dead instances that are pinned, or
/// that have no supervisor, are cleaned up by the next client.
async fn is_over<W: Platform>(client: &Client<W>, snapshot: &Snapshot) -> Result<bool> {
    if snapshot.clients > 0 || snapshot.locked || (snapshot.supervised && !snapshot.pinned) {
        return Ok(false);
    }
    match &snapshot.instance {
        Some(instance) => is_dead(&client.platform, instance).await,
        None => Ok(true),
    }
}

async fn is_dead<W: Platform>(platform: &W, instance: &Instance) -> Result<bool> {
    if instance.identity.pid == 0 {
        return Ok(false);
    }
    let found = find_identity(platform, instance.identity).await?;
    Ok(found.is_none())
}

async fn open<W: Platform>(client: &Client<W>) -> Result<Option<Arc<ObjectOf<W>>>> {
    let opened = client
        .platform
        .kernel()
        .open(&client.key, Missing::Ignore)
        .await?;
    Ok(opened.map(Arc::new))
}
