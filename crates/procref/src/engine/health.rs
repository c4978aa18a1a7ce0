//! Checks whether a client may use an instance.

use super::client::Client;
use super::config::Config;
use super::fingerprint::Mismatch;
use super::platform::{FailedCheck, Platform, ServiceProcess as _};
use super::recursion::calling;
use super::resolved_instance::ResolvedInstance;
use crate::error::{Error, Result};

/// The moment at which the process of an instance was found. The client does not check a process again that
/// was alive a moment ago.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Now,
    Before,
}

/// Returns an error if the client and the instance's starter would stop the instance in different ways (R4).
/// A client with callbacks must not stop an instance that a command started, or the reverse. A client that
/// has neither accepts both.
fn check_kind<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
) -> Result<()> {
    let by_command = current.instance.command;
    let fits = match (&config.command, &config.start) {
        (Some(_), _) => by_command,
        (None, Some(_)) => !by_command,
        (None, None) => true,
    };
    if fits {
        return Ok(());
    }
    let (theirs, ours) = if by_command {
        ("a command", "callbacks")
    } else {
        ("callbacks", "a command")
    };
    Err(Error::OtherKind {
        service: client.key.name().to_owned(),
        pid: current.info.pid(),
        theirs,
        ours,
    })
}

/// Returns `true` if the instance is alive and passes the client's own health check.
pub(crate) async fn is_healthy<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
    seen: Seen,
) -> Result<bool> {
    let remote = current.is_remote();
    match &current.process {
        Some(_) if seen == Seen::Now => {}
        Some(process) if !process.is_alive().await => return Ok(false),
        None if !remote => return Ok(false),
        _ => {}
    }
    check_kind(client, config, current)?;
    let Some(check) = &config.health else {
        if remote {
            return Err(Error::InvalidSetting {
                service: client.key.name().to_owned(),
                setting: "on_health_check",
                reason: "the service has no local process (pid 0), so only a health check can find out whether \
                         it is alive, and this client has none"
                    .to_owned(),
            });
        }
        return Ok(true);
    };
    let limit = config.health_timeout();
    let checked = calling(client, check(&current.info));
    match client.platform.timeout(limit, checked).await {
        Some(healthy) => Ok(healthy),
        None => {
            let (service, pid) = (client.key.name(), current.info.pid());
            tracing::warn!(
                service,
                pid,
                ?limit,
                "the health check timed out; treating the service as unhealthy"
            );
            Ok(false)
        }
    }
}

/// Returns `true` if an instance that procref executed passes the health check of its command. Clients that join call
/// this. The client that starts the instance checks it before it is published as ready.
async fn passes_command_check<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
) -> Result<bool> {
    let Some(command) = &config.command else {
        return Ok(true);
    };
    let (service, pid) = (client.key.name(), current.info.pid());
    let failed = client
        .platform
        .check_health(&client.key, command, current.info.port());
    match failed.await? {
        None => Ok(true),
        Some(FailedCheck {
            probe,
            answer,
            limit,
        }) => {
            tracing::warn!(
                service,
                pid,
                ?limit,
                "the health check failed; restarting the service: {probe}: {answer}"
            );
            Ok(false)
        }
    }
}

/// Returns `true` if a client may use an instance, because it is healthy. Returns an error if it is healthy,
/// but not the instance that the client requires. An unhealthy instance is not an error, because the caller
/// replaces it. Its fingerprint does not matter.
pub(crate) async fn is_usable<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
    seen: Seen,
) -> Result<bool> {
    if !is_healthy(client, config, current, seen).await?
        || !passes_command_check(client, config, current).await?
    {
        return Ok(false);
    }
    let Some(own) = config
        .fingerprint
        .as_ref()
        .filter(|own| !own.is_of(current))
    else {
        return Ok(true);
    };
    let (service, pid) = (client.key.name(), current.info.pid());
    let theirs = current.fingerprint.clone();
    if own.mismatch == Mismatch::Refuse {
        return Err(Error::Fingerprint {
            service: service.to_owned(),
            ours: own.text.clone(),
            theirs,
            pid,
        });
    }
    tracing::debug!(
        service,
        pid,
        ours = own.text,
        ?theirs,
        "joined an instance of another fingerprint"
    );
    Ok(true)
}
