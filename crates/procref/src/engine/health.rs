//! Whether an instance can be used.

use super::client::Client;
use super::config::Config;
use super::fingerprint::Mismatch;
use super::platform::{FailedCheck, Platform, ServiceProcess as _};
use super::recursion::calling;
use super::resolved_instance::ResolvedInstance;
use crate::error::{Error, Result};

/// When an instance's process was looked up: whoever was alive a moment ago need not be asked again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Now,
    Before,
}

/// R4: what was started by a command is not stopped by callbacks, nor the other way round. A client that
/// has neither takes it as it is.
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

/// Whether it is this very instance, alive, and the client's own check says so, too.
pub(crate) async fn is_healthy<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
    seen: Seen,
) -> Result<bool> {
    let remote = current.instance.identity.pid == 0;
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
                reason:
                    "the service has no local process (pid 0), so only a health check can tell \
                         whether it lives, and this client has none"
                        .to_owned(),
            });
        }
        return Ok(true);
    };
    match client
        .platform
        .timeout(
            config.health_timeout(),
            calling(client, check(&current.info)),
        )
        .await
    {
        Some(healthy) => Ok(healthy),
        None => {
            tracing::warn!(
                service = client.key.name(),
                pid = current.info.pid(),
                limit = ?config.health_timeout(),
                "the health check did not end: taken for unhealthy"
            );
            Ok(false)
        }
    }
}

/// Whether an instance of a command says that it is well, where its client wants to know. Asked by those who
/// join it; who starts it has asked already.
pub(crate) async fn answers<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
) -> Result<bool> {
    let Some(command) = &config.command else {
        return Ok(true);
    };
    let (service, pid) = (client.key.name(), current.info.pid());
    let sick = client
        .platform
        .check_health(&client.key, command, current.info.port());
    match sick.await? {
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
                "the health check failed, and the service is started anew: {probe}: {answer}"
            );
            Ok(false)
        }
    }
}

/// Whether a client may use an instance: it is well. An error if it is, but not what the client wants; one
/// that is not will be replaced, whatever it is.
pub(crate) async fn is_usable<W: Platform>(
    client: &Client<W>,
    config: &Config,
    current: &ResolvedInstance<W>,
    seen: Seen,
) -> Result<bool> {
    if !is_healthy(client, config, current, seen).await?
        || !answers(client, config, current).await?
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
        "of another fingerprint"
    );
    Ok(true)
}
