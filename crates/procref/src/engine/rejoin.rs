//! Joins a service again whose instance this client knows already.
//!
//! ```text
//! rejoin:   one step takes the reference, and requires that the instance is still the known one
//!                                           -> check health, done
//!           any condition does not hold     -> join in the usual way, which reads why
//! ```

use std::sync::Arc;

use super::client::Client;
use super::config::Config;
use super::handle::HandleInner;
use super::health::{Seen, is_usable};
use super::platform::Platform;
use super::resolved_instance::ResolvedInstance;
use super::transition::{Rejoining, Transition};
use super::unhealthy::Unhealthy;
use crate::crash::Point;
use crate::error::Result;
use crate::kernel::{Kernel, Supervised};

/// The result of an attempt to join the known instance.
pub(super) enum Rejoined<W: Platform> {
    Handle(HandleInner<W>),
    /// The attempt changed nothing.
    No,
    /// This client has joined, but the instance is dead or unhealthy. The transition has the reference.
    Unusable(Transition<W>, Unhealthy),
}

/// Joins the instance that this client has resolved last, if the service still has it.
///
/// The usual way is a join, and then a read of the object, because the object may have another instance. Here the
/// join itself checks that, so a client that acquires the same service often makes half the system calls.
pub(super) async fn rejoin<W: Platform>(
    mut rejoining: Rejoining<'_, W>,
    client: &Client<W>,
    config: &Config,
    known: Arc<ResolvedInstance<W>>,
    supervised: Supervised,
    point: Point,
) -> Result<Rejoined<W>> {
    // Only the starter's setting allows an instance without a supervisor.
    let supervised = match known.instance.keep_orphan {
        _ if !W::Kernel::NEEDS_SUPERVISOR => Supervised::No,
        true => supervised,
        false => Supervised::Yes,
    };
    // If the step fails, the usual way reports the same error.
    if !matches!(rejoining.join(&known, supervised, point).await, Ok(true)) {
        return Ok(Rejoined::No);
    }
    let (service, pid) = (client.key.name(), known.info.pid());
    match is_usable(client, config, &known, Seen::Before).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(
                service,
                pid,
                generation = known.generation,
                "found unhealthy"
            );
            let rejected = Unhealthy::of(&known);
            return Ok(Rejoined::Unusable(rejoining.into_transition(), rejected));
        }
        Err(error) => {
            rejoining.into_transition().release_after_failure().await;
            return Err(error);
        }
    }
    tracing::debug!(service, pid, generation = known.generation, "joined again");
    // The supervisor of the instance limits the log, too. So this is only for a kernel that does not report writes.
    if let Some(command) = config
        .command
        .as_ref()
        .filter(|_| client.is_log_check_due())
    {
        client.platform.rotate_log(&client.key, command).await;
    }
    Ok(Rejoined::Handle(rejoining.finish(known)))
}
