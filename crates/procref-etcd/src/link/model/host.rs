//! A simulated host: its link, the message on the wire, its service and its fuse.

use super::TIMING;
use crate::link::{Event, Link};
use crate::registry::{Reply, Request};
use crate::timing::Millis;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    Idle,
    Sent(Request),
    Answered(Reply),
}

/// A running service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Service {
    pub(super) fence: i64,
    pub(super) dies_at: Option<Millis>,
    pub(super) told: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) links: u8,
    pub(super) link: Option<Link>,
    pub(super) announced: bool,
    /// The link waits until another host has started the service.
    pub(super) waiting: bool,
    /// The link has left an instance that stopped before the link was ready.
    pub(super) begins_again: bool,
    pub(super) paused: bool,
    pub(super) cut: bool,
    pub(super) wire: Wire,
    /// A request that may still be applied although the link has given it up, or a second time.
    pub(super) late: Option<Request>,
    pub(super) service: Option<Service>,
    /// A start that waits until the previous service of the host is dead.
    pub(super) start: Option<i64>,
    pub(super) fuse: Option<Millis>,
    pub(super) tell_exited: bool,
    pub(super) tell_leftover: bool,
}

impl Host {
    pub(super) fn is_due(&self, now: Millis) -> bool {
        self.link
            .as_ref()
            .and_then(Link::wake_at)
            .is_some_and(|time| time <= now)
    }

    /// Returns what the program around the link reports next.
    pub(super) fn event(&self) -> Option<Event> {
        if self.tell_exited {
            return Some(Event::Exited);
        }
        if self.tell_leftover && self.service.is_none() {
            return Some(Event::LeftoverStopped);
        }
        let untold = self
            .service
            .as_ref()
            .is_some_and(|service| !service.told && service.dies_at.is_none());
        (untold && self.start.is_none()).then(|| Event::Ready("here:1".to_owned()))
    }

    pub(super) fn mark_told(&mut self, event: &Event) {
        match event {
            Event::Exited => self.tell_exited = false,
            Event::LeftoverStopped => self.tell_leftover = false,
            _ => {
                if let Some(service) = &mut self.service {
                    service.told = true;
                }
            }
        }
    }

    pub(super) fn stop_service(&mut self, now: Millis) {
        match &mut self.service {
            Some(service) => service.dies_at = Some(service.dies_at.unwrap_or(now + TIMING.grace)),
            None => self.tell_exited = self.start.take().is_some(),
        }
    }

    /// The link is gone. The supervisor, which is another process, stops the service.
    pub(super) fn lose_link(&mut self, now: Millis) {
        self.start = None;
        self.stop_service(now);
        self.link = None;
        self.announced = false;
        self.waiting = false;
        self.begins_again = false;
        self.paused = false;
        self.fuse = None;
        self.tell_exited = false;
        self.tell_leftover = false;
        // The request may be applied, but its answer is not read.
        self.late = match std::mem::replace(&mut self.wire, Wire::Idle) {
            Wire::Sent(request) => Some(request),
            Wire::Idle | Wire::Answered(_) => self.late.take(),
        };
    }
}
