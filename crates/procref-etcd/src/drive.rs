//! Runs a [`Link`] on a [`Registry`].

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::link::{Action, Event, Link, Outcome};
use crate::registry::{Registry, Request};
use crate::timing::Millis;

/// The host that a link runs on.
pub trait Surroundings {
    /// Performs an action, except those on the keys. Must not wait.
    fn perform(&mut self, action: Action);

    /// Waits for an event of the host: [`Event::Stop`], [`Event::Ready`], [`Event::Exited`] or
    /// [`Event::LeftoverStopped`]. The driver may drop the future before it is ready, and must then lose no event.
    fn event(&mut self) -> impl Future<Output = Event>;
}

/// Runs the link until it exits.
pub async fn drive<R: Registry, S: Surroundings>(
    link: &mut Link,
    registry: &mut R,
    host: &mut S,
) -> Outcome {
    let mut request = None;
    let mut event = Event::Changed;
    loop {
        for action in link.step(now(), event) {
            match action {
                Action::Perform(next) => request = Some(next),
                Action::Revoke(lease) => registry.revoke(lease),
                Action::Exit(outcome) => return outcome,
                action => host.perform(action),
            }
        }
        event = match request.take() {
            Some(request) => match answer(link, registry, host, &request).await {
                Ok(event) => event,
                Err(outcome) => return outcome,
            },
            None => tokio::select! {
                () = registry.changed() => Event::Changed,
                () = wake(link) => Event::Tick,
                event = host.event() => event,
            },
        };
    }
}

/// Waits for the answer to a request, and handles other events before it.
async fn answer<R: Registry, S: Surroundings>(
    link: &mut Link,
    registry: &mut R,
    host: &mut S,
    request: &Request,
) -> Result<Event, Outcome> {
    let mut reply = pin!(registry.perform(request));
    loop {
        let event = tokio::select! {
            reply = &mut reply => return Ok(reply.map_or(Event::Unknown, Event::Reply)),
            () = wake(link) => Event::Tick,
            event = host.event() => event,
        };
        for action in link.step(now(), event) {
            match action {
                Action::Exit(outcome) => return Err(outcome),
                // No other action on the keys can follow from an event of the host.
                action => host.perform(action),
            }
        }
    }
}

async fn wake(link: &Link) {
    match link.wake_at() {
        Some(time) => tokio::time::sleep(Duration::from_millis(time.saturating_sub(now()))).await,
        None => std::future::pending().await,
    }
}

/// Returns the time of this host's `CLOCK_BOOTTIME`.
#[must_use]
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
