//! Keeps a link without local clients while other hosts use the service that it runs.

use procref::SharedService;
use tokio::sync::watch;

use super::{Local, PAUSE, is_pinned, report};

/// Pins and unpins the link's own service as `wanted` says. A pin that a dead link has left is removed.
pub(super) async fn follow(
    local: Local,
    mut announced: watch::Receiver<bool>,
    mut wanted: watch::Receiver<bool>,
) {
    let service = match SharedService::builder(&local.name)
        .base_dir(&local.runtime_dir)
        .build()
    {
        Ok(service) => service,
        Err(cause) => return report(cause),
    };
    // A pin of this time is a leftover: a client that pins the service does it after the start.
    let mut is_ours = is_pinned(&service).unwrap_or(false);
    // Before that, the starter holds the lock of the service.
    if announced.wait_for(|announced| *announced).await.is_err() {
        return;
    }
    loop {
        let pin = *wanted.borrow_and_update();
        while pin != is_ours {
            match change(&service, pin).await {
                Ok(changed) => {
                    is_ours = pin && changed;
                    break;
                }
                Err(cause) => {
                    report(cause);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Returns `true` if the state is not what it was before. A pin of the user stays.
async fn change(service: &SharedService, pin: bool) -> procref::Result<bool> {
    if !pin {
        return service.unpin().await;
    }
    if is_pinned(service)? {
        return Ok(false);
    }
    // `None` if no procref has started this link.
    let Some(client) = service.try_join().await? else {
        return Ok(false);
    };
    client.pin()?;
    client.release().await?;
    Ok(true)
}
