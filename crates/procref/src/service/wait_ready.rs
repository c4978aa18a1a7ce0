//! Waiting until a service can be used, whoever starts it.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::client::Client;
use crate::engine::describe::describe;
use crate::engine::platform::{CHECK_SUSPENDED, ObjectOf, Platform as _};
use crate::engine::unhealthy::serving_instance;
use crate::engine::waiting::Waiting;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Kernel as _, Missing, Object as _, Step};
use crate::launch::own_start::{is_own_start, own_start};
use crate::namespace::Changes;
use crate::runtime::deadline::{Deadline, Patience};

/// How long one look at somebody's transition lasts at most.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Waits until an instance serves. Creates nothing, and takes nothing.
///
/// Of a service that nobody has started there is no kernel object to sleep on. But every instance is on
/// record before it serves, under the lock. So this sleeps until a file comes into the directory, and then
/// until the lock is free.
pub(crate) async fn wait_ready(client: &Arc<Client<Host>>) -> Result<ServiceInfo> {
    loop {
        // Before the look: what comes between look and sleep ends the sleep.
        let changes = Changes::of(&client.key.namespace)?;
        match look(client).await? {
            Look::Serves(info) => return Ok(info),
            Look::Again => {}
            Look::Nothing => {
                let kept = Arc::clone(client);
                let changed = async move {
                    let changed = changes.wait(&kept.key.namespace);
                    drop(kept);
                    changed
                };
                let purpose = "wait until somebody starts the service";
                client
                    .arrival
                    .wait(&client.platform, purpose, changed)
                    .await?;
            }
        }
    }
}

/// Waits on this thread until nobody starts or stops the service; false if nobody does, or the kernel
/// has no such wait.
///
/// For callers who block their thread anyway. As a future each process of a crowd would need a thread that
/// sleeps for it, one for the time limit, and a runtime, and would burn more on those than on anything else.
/// Like any waiter this one takes nothing: who is woken looks again.
pub(crate) fn wait_unlocked_here(
    client: &Client<Host>,
    waiting: &mut Waiting<Host>,
) -> Result<bool> {
    // Not opened here: whoever has the turn does that, and has its name on what it has opened.
    let Some(object) = client.known_object() else {
        return Ok(false);
    };
    let mut waited: Option<(Option<Duration>, Deadline, Patience)> = None;
    loop {
        let announced = match pollster::block_on(object.snapshot()) {
            Ok(snapshot) if is_own_start(&client.key, &snapshot) => {
                return Err(own_start(&client.key));
            }
            Ok(snapshot) if snapshot.locked => snapshot.announced,
            // It is free by now.
            Ok(_) if waited.is_some() => return Ok(true),
            // Removed: somebody else of this process may be about to find out.
            Ok(_) | Err(Fault::Removed) => return Ok(false),
            Err(Fault::Refused(error)) => return Err(error),
        };
        let patience = match waited {
            None => pollster::block_on(waiting.begin(announced)),
            // The time is up. As for the wait that is a future: the limit may be another one by now.
            Some((before, _, patience)) if patience.is_renewed(before, announced) => patience,
            Some((_, deadline, _)) => {
                let error = pollster::block_on(client.lock_timeout_error(&object, deadline));
                return Err(waiting.explain(error));
            }
        };
        let deadline = patience.deadline(announced);
        let woken = wait_until(client, &object, deadline);
        pollster::block_on(waiting.end());
        match woken {
            None => return Ok(false),
            // Removed in the meantime: the service was stopped. By now there may be another one.
            Some(Ok(true) | Err(Fault::Removed)) => return Ok(true),
            Some(Ok(false)) => waited = Some((announced, deadline, patience)),
            Some(Err(Fault::Refused(error))) => return Err(error),
        }
    }
}

/// Sleeps until no process holds the lock, or the deadline. A supervisor that is suspended is continued, before and
/// meanwhile.
fn wait_until(
    client: &Client<Host>,
    object: &ObjectOf<Host>,
    deadline: Deadline,
) -> Option<Step<bool>> {
    loop {
        pollster::block_on(client.platform.resume_supervisor(object));
        let left = deadline.left();
        match object.wait_unlocked_within(left.min(CHECK_SUSPENDED)) {
            Some(Ok(false)) if left > CHECK_SUSPENDED => {}
            waited => return waited,
        }
    }
}

enum Look {
    Serves(ServiceInfo),
    /// Somebody's transition has ended.
    Again,
    /// Nobody starts it.
    Nothing,
}

async fn look(client: &Arc<Client<Host>>) -> Result<Look> {
    let opened = client
        .platform
        .kernel()
        .open(&client.key, Missing::Ignore)
        .await?;
    let Some(object) = opened.map(Arc::new) else {
        return Ok(Look::Nothing);
    };
    let snapshot = match object.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(Fault::Removed) => return Ok(Look::Nothing),
        Err(Fault::Refused(error)) => return Err(error),
    };
    if let Some(instance) = serving_instance(&snapshot, None) {
        let info = describe(&client.platform, &client.key, &instance).await;
        if info.pid() == 0 || info.is_alive() {
            return Ok(Look::Serves(info));
        }
    }
    if !snapshot.locked {
        return Ok(Look::Nothing);
    }
    let patience = Patience::Until(Deadline::after(LOOK_AGAIN));
    match client.wait_unlocked(&object, &snapshot, patience).await {
        Ok(()) | Err(Error::Timeout { .. }) => Ok(Look::Again),
        Err(error) => Err(error),
    }
}
