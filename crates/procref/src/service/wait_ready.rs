//! Waits until a service can be used, without starting it.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::client::Client;
use crate::engine::describe::describe;
use crate::engine::platform::Platform as _;
use crate::engine::unhealthy::serving_instance;
use crate::engine::waiting::Waiting;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Kernel as _, Missing, Object as _};
use crate::launch::own_start::{is_own_start, own_start};
use crate::namespace::RecordWatch;
use crate::runtime::deadline::{Deadline, Patience};

/// The longest wait for one transition, before the state is read again.
const READ_AGAIN: Duration = Duration::from_secs(3600);

/// Waits until an instance serves. Creates and takes nothing.
///
/// A service that was not started has no kernel object to sleep on. But the record of every instance is written before
/// the instance serves, with the lock held. So this sleeps until a file appears in the directory, and then until the
/// lock is free.
pub(crate) async fn wait_ready(client: &Arc<Client<Host>>) -> Result<ServiceInfo> {
    loop {
        // The watch begins before the state is read, so a file that appears after the read ends the sleep.
        let changes = RecordWatch::new(&client.key.namespace)?;
        match read_state(client).await? {
            State::Serving(info) => return Ok(info),
            State::Changed => {}
            State::Absent => {
                let kept = Arc::clone(client);
                let changed = async move {
                    let changed = changes.wait(&kept.key.namespace);
                    drop(kept);
                    changed
                };
                let purpose = "wait until the service is started";
                client
                    .readiness
                    .wait(&client.platform, purpose, changed)
                    .await?;
            }
        }
    }
}

/// Waits on this thread until no process starts or stops the service. Returns `false` if no process does, or if the
/// kernel has no such wait.
///
/// This is for callers that block their thread anyway. A future would need a thread that sleeps for it,
/// another thread for the time limit, and a runtime. If many processes wait for one start, these would be the
/// largest cost. This wait takes no lock or reference, and the caller reads the state again afterwards.
pub(crate) fn wait_unlocked_here(
    client: &Client<Host>,
    waiting: &mut Waiting<Host>,
) -> Result<bool> {
    // The object is not opened here. The future that has the permit opens it, and keeps what it has opened.
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
            // The lock was released while this thread waited.
            Ok(_) if waited.is_some() => return Ok(true),
            // If the object was removed, the next attempt to join finds this out, too.
            Ok(_) | Err(Fault::Removed) => return Ok(false),
            Err(Fault::Refused(error)) => return Err(error),
        };
        let patience = match waited {
            None => pollster::block_on(waiting.begin(announced)),
            // The time is up, but the announced limit may have changed, as in `Client::wait_unlocked`.
            Some((before, _, patience)) if patience.is_renewed(before, announced) => patience,
            Some((_, deadline, _)) => {
                let error = pollster::block_on(client.lock_timeout_error(&object, deadline));
                return Err(waiting.explain(error));
            }
        };
        let deadline = patience.deadline(announced);
        let woken = client.platform.wait_unlocked_here(&object, deadline);
        pollster::block_on(waiting.end());
        match woken {
            None => return Ok(false),
            // If the object was removed, the service was stopped. Another process may have started it again.
            Some(Ok(true) | Err(Fault::Removed)) => return Ok(true),
            Some(Ok(false)) => waited = Some((announced, deadline, patience)),
            Some(Err(Fault::Refused(error))) => return Err(error),
        }
    }
}

enum State {
    Serving(ServiceInfo),
    /// The transition of another process has ended.
    Changed,
    /// No instance serves, and no process is starting one.
    Absent,
}

async fn read_state(client: &Arc<Client<Host>>) -> Result<State> {
    let opened = client
        .platform
        .kernel()
        .open(&client.key, Missing::Ignore)
        .await?;
    let Some(object) = opened.map(Arc::new) else {
        return Ok(State::Absent);
    };
    let snapshot = match object.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(Fault::Removed) => return Ok(State::Absent),
        Err(Fault::Refused(error)) => return Err(error),
    };
    if let Some(instance) = serving_instance(&snapshot, None) {
        let info = describe(&client.platform, &client.key, &instance).await;
        if info.pid() == 0 || info.is_alive() {
            return Ok(State::Serving(info));
        }
    }
    if !snapshot.locked {
        return Ok(State::Absent);
    }
    let patience = Patience::Until(Deadline::after(READ_AGAIN));
    match client.wait_unlocked(&object, &snapshot, patience).await {
        Ok(()) | Err(Error::Timeout { .. }) => Ok(State::Changed),
        Err(error) => Err(error),
    }
}
