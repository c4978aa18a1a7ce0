//! Follows a service: the instance that serves now, the death of an instance, the end of the service.

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
    /// Returns the instance that serves now, if one does.
    pub(crate) async fn serving(&self) -> Result<Option<ServiceInfo>> {
        self.check_ours("read the state of the service")?;
        let client = self.client();
        // The handle's reference is on the known object. If that object was removed from outside, other
        // clients may have created another one, and this code reads it. It does not keep that object open,
        // because this process holds no reference on it.
        let mut object = client.known_object();
        loop {
            let Some(candidate) = object.take() else {
                match open(client).await? {
                    Some(opened) => object = Some(opened),
                    None => return Ok(None),
                }
                continue;
            };
            match self.serving_on(&candidate).await {
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
        Ok(known.is_alive().await.then(|| known.info.clone()))
    }

    /// Waits until the instance that the handle was acquired with is dead.
    pub(crate) async fn wait_dead(&self) -> Result<()> {
        self.check_ours("wait for its end")?;
        let (client, current) = (self.client(), self.current());
        let Some(process) = &current.process else {
            if !current.is_remote() {
                return Ok(());
            }
            return Err(Error::InvalidSetting {
                service: client.key.name().to_owned(),
                setting: "wait_dead",
                reason: "the service has no local process (pid 0), so only a health check can find out whether \
                         it is alive"
                    .to_owned(),
            });
        };
        while process.is_alive().await {
            let process = Arc::clone(process);
            let exited = async move { process.wait_exit().await };
            let purpose = "wait for the service's death";
            current
                .death
                .wait(&client.platform, purpose, exited)
                .await?;
        }
        Ok(())
    }
}

/// Waits until the service has stopped and its object and files are removed.
pub(crate) async fn wait_stopped<W: Platform>(client: &Arc<Client<W>>) -> Result<()> {
    let Some(object) = open(client).await? else {
        return Ok(());
    };
    loop {
        match object.snapshot().await {
            Ok(snapshot) if is_stopped(client, &snapshot).await? => return Ok(()),
            Ok(_) => {}
            // If another process has started the service again, that is another run.
            Err(Fault::Removed) => return Ok(()),
            Err(Fault::Refused(error)) => return Err(error),
        }
        // Usually the supervisor removes the object, so this call continues a suspended supervisor. It does
        // not continue a supervisor that is suspended later. The wait may take days, and only polling could
        // detect that.
        client.platform.resume_supervisor(&object).await;
        // The thread keeps the client and its shared wait alive for later futures.
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

/// Returns `true` if nothing runs and no process will remove the object. The next client cleans up dead instances that
/// are pinned or have no supervisor.
async fn is_stopped<W: Platform>(client: &Client<W>, snapshot: &Snapshot) -> Result<bool> {
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
