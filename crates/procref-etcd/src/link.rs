//! What a link does: a state machine without I/O, so that a model can run it.
//!
//! [`Link::step`] takes an [`Event`] and returns what to do. At most one request is under way. After a lost answer the
//! link reads the keys before it writes again. A request that is applied late is harmless: every step compares the
//! lease of the reference, or that no instance is there.

use crate::registry::{Found, Lease, Reply, Request, View};
use crate::timing::{Millis, Timing};

mod decide;
#[cfg(test)]
mod model;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Nothing; the time of [`Link::wake_at`] has come.
    Tick,
    /// The answer to the request.
    Reply(Reply),
    /// No answer to the request came in time.
    Unknown,
    /// The keys may have changed.
    Changed,
    /// The local clients are gone, or an administrator stops the link.
    Stop,
    /// The service that [`Action::Start`] started is ready, and listens there.
    Ready(String),
    /// The service is not running: it exited, could not be started, or was stopped.
    Exited,
    /// The service that [`Action::StopLeftover`] names is not running.
    LeftoverStopped,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Perform the request, and report the answer.
    Perform(Request),
    /// Arm the fuse, or move its times.
    Fuse {
        /// When the link must exit. The supervisor of a service on this host then stops it.
        link: Millis,
        /// When the fuse kills what is left of that service.
        kill: Millis,
    },
    /// Disarm the fuse until its next times, because the link has no reference.
    Disarm,
    /// Start the service on this host with this fencing token. The fuse is armed already.
    Start(i64),
    /// Stop the service on this host.
    StopService,
    /// Stop the service that a dead link of this host may have left.
    StopLeftover,
    /// Report that the link waits until the host that may run the service has started it.
    Wait,
    /// Report to the local clients that the service is ready.
    Announce(Found),
    /// Keep the link without local clients, because other hosts use its service; or do not.
    Keep(bool),
    /// Revoke a lease that no key needs. Nothing waits for this.
    Revoke(Lease),
    /// Exit.
    Exit(Outcome),
}

/// How a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The link released its reference.
    Released,
    /// The service is gone. The link released its reference.
    ServiceGone,
    /// The link lost its reference, or could not confirm it in time.
    Lost,
    /// The last instance vanished without a stop, and the takeover is manual.
    NeedsForget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Held {
    lease: Lease,
    /// Before the grant of `lease`.
    proof: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    Starting,
    Running,
    Stopping,
    Gone,
}

/// The service that runs on this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Serving {
    found: Found,
    process: Process,
    address: String,
}

/// The state machine of a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    timing: Timing,
    host: String,
    session: Lease,
    manual: bool,
    /// Whether only another host may run the service.
    elsewhere: bool,
    used: Lease,
    /// The request under way, and when it was sent.
    request: Option<(Request, Millis)>,
    /// Leases whose requests may have been applied without an answer.
    tried: Vec<Held>,
    held: Option<Held>,
    /// The instance that was joined or started. `None` while a link with a reference waits for one.
    joined: Option<Found>,
    serving: Option<Serving>,
    view: Option<View>,
    read_at: Millis,
    /// Whether a request had no answer, or was refused, since the last read.
    doubt: bool,
    /// Whether the keys changed while a request was under way.
    changed: bool,
    leftover_asked: bool,
    leftover_stopped: bool,
    announced: bool,
    kept: bool,
    stop: bool,
    /// Set when the link will exit as soon as its service is not running.
    ending: Option<Outcome>,
    exited: bool,
}

impl Link {
    /// Creates a link. `session` is random and positive, and its low 24 bits are 0. With `manual`, no link starts the
    /// service after an instance that vanished without a stop.
    #[must_use]
    pub fn new(timing: Timing, host: &str, session: Lease, manual: bool) -> Self {
        Self {
            timing,
            host: host.to_owned(),
            session,
            manual,
            elsewhere: false,
            used: 0,
            request: None,
            tried: Vec::new(),
            held: None,
            joined: None,
            serving: None,
            view: None,
            read_at: 0,
            doubt: false,
            changed: false,
            leftover_asked: false,
            leftover_stopped: false,
            announced: false,
            kept: false,
            stop: false,
            ending: None,
            exited: false,
        }
    }

    /// Sets that this host must not run the service. If there is no instance, the link takes a reference and waits until
    /// another host has started one.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Handles an event, and returns what to do, in order.
    pub fn step(&mut self, now: Millis, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.exited {
            return actions;
        }
        self.check_deadline(now, &mut actions);
        self.accept(now, event, &mut actions);
        // The answer may be older than the reference lasts, for example after a pause of this process.
        self.check_deadline(now, &mut actions);
        self.decide(now, &mut actions);
        actions
    }

    /// Returns when [`Link::step`] must be called if nothing happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        if self.exited || self.ending.is_some() {
            return None;
        }
        let lost = self.held.map(|held| self.timing.lost(held.proof));
        if self.request.is_some() {
            return lost;
        }
        let renewal = self.held.map(|held| self.timing.renewal(held.proof));
        [lost, renewal, Some(self.read_at + self.timing.reread)]
            .into_iter()
            .flatten()
            .min()
    }

    fn check_deadline(&mut self, now: Millis, actions: &mut Vec<Action>) {
        if self
            .held
            .is_some_and(|held| now >= self.timing.lost(held.proof))
        {
            self.end(Outcome::Lost, actions);
        }
    }

    fn end(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.ending.is_none() {
            self.ending = Some(outcome);
            self.stop_service(actions);
        }
    }

    fn stop_service(&mut self, actions: &mut Vec<Action>) {
        let running =
            |serving: &&mut Serving| !matches!(serving.process, Process::Stopping | Process::Gone);
        if let Some(serving) = self.serving.as_mut().filter(running) {
            serving.process = Process::Stopping;
            actions.push(Action::StopService);
        }
    }

    fn accept(&mut self, now: Millis, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Changed => {
                self.view = None;
                self.changed = self.request.is_some();
            }
            Event::Stop => self.stop = true,
            Event::LeftoverStopped => self.leftover_stopped = true,
            Event::Ready(address) => {
                let starting = |serving: &&mut Serving| serving.process == Process::Starting;
                if let Some(serving) = self.serving.as_mut().filter(starting) {
                    serving.process = Process::Running;
                    serving.address = address;
                }
            }
            Event::Exited => {
                if let Some(serving) = &mut self.serving {
                    serving.process = Process::Gone;
                }
            }
            Event::Unknown => {
                if let Some((request, sent)) = self.request.take() {
                    self.tried
                        .extend(request.new_lease().map(|lease| Held { lease, proof: sent }));
                    self.view = None;
                    self.doubt = true;
                }
            }
            Event::Reply(reply) => {
                if let Some((request, sent)) = self.request.take() {
                    self.accept_reply(now, request, sent, reply, actions);
                }
            }
        }
    }

    fn accept_reply(
        &mut self,
        now: Millis,
        request: Request,
        sent: Millis,
        reply: Reply,
        actions: &mut Vec<Action>,
    ) {
        let revision = match reply {
            Reply::View(view) => {
                self.read_at = now;
                self.accept_view(now, view, actions);
                return;
            }
            Reply::Refused => {
                self.view = None;
                self.doubt = true;
                return;
            }
            Reply::Done(revision) => revision,
        };
        self.view = None;
        match request {
            Request::Read => {}
            Request::Join { lease, found, .. } => {
                self.hold(now, Held { lease, proof: sent }, Some(found), actions)
            }
            Request::Ask { lease, .. } => {
                self.hold(now, Held { lease, proof: sent }, None, actions)
            }
            Request::Enter {
                lease, instance, ..
            } => {
                let found = Found {
                    instance,
                    fence: revision,
                };
                self.hold(now, Held { lease, proof: sent }, Some(found), actions);
            }
            Request::Rebind { lease, .. } => self.rebind(Held { lease, proof: sent }, actions),
            Request::Publish { instance, .. } => {
                if let Some(serving) = &mut self.serving {
                    serving.found.instance = instance;
                }
            }
            Request::Leave { lease, .. } => {
                self.held = None;
                actions.push(Action::Revoke(lease));
                self.left(actions);
            }
            Request::Clear { .. } => {}
        }
    }

    /// Ends the link that has released its reference, or begins again.
    fn left(&mut self, actions: &mut Vec<Action>) {
        let outcome = match (self.stop, &self.joined) {
            (true, _) => Outcome::Released,
            // The instance stopped between the join and the next read. No client knows it, so the link joins or starts
            // the next one, as `acquire` does on one host.
            (false, Some(_)) if !self.announced && self.serving.is_none() => {
                self.joined = None;
                return actions.push(Action::Disarm);
            }
            (false, Some(_)) => Outcome::ServiceGone,
            // Only this makes a link give up that waits for an instance.
            (false, None) => Outcome::NeedsForget,
        };
        self.end(outcome, actions);
    }

    /// Records a reference that a request has taken. Without an instance, the link waits for one.
    fn hold(&mut self, now: Millis, held: Held, found: Option<Found>, actions: &mut Vec<Action>) {
        self.held = Some(held);
        self.tried.clear();
        self.joined.clone_from(&found);
        let is_own = |found: &Found| found.instance.session == self.session;
        let Some(found) = found.filter(is_own) else {
            actions.push(self.fuse(held));
            if self.joined.is_none() {
                actions.push(Action::Wait);
            }
            return;
        };
        if now >= self.timing.fuse(held.proof) {
            return self.end(Outcome::Lost, actions);
        }
        let fence = found.fence;
        self.serving = Some(Serving {
            found,
            process: Process::Starting,
            address: String::new(),
        });
        actions.push(self.fuse(held));
        actions.push(Action::Start(fence));
    }

    fn fuse(&self, held: Held) -> Action {
        let kill = self.timing.kill(held.proof);
        let link = match self.serving {
            Some(_) => self.timing.fuse(held.proof),
            None => kill,
        };
        Action::Fuse { link, kill }
    }

    /// Records that the reference moved to a new lease.
    fn rebind(&mut self, held: Held, actions: &mut Vec<Action>) {
        if let Some(old) = self.held.replace(held) {
            actions.push(Action::Revoke(old.lease));
        }
        self.tried.clear();
        actions.push(self.fuse(held));
    }

    /// Compares the keys with what the link believes, and takes over what a request without an answer has done.
    fn accept_view(&mut self, now: Millis, view: View, actions: &mut Vec<Action>) {
        let mine = view
            .found
            .as_ref()
            .filter(|found| found.instance.session == self.session);
        match (view.own, self.held) {
            (Some(own), Some(held)) if own == held.lease => {}
            (Some(own), held) => match (
                self.tried.iter().find(|tried| tried.lease == own).copied(),
                held,
            ) {
                (Some(tried), Some(_)) => self.rebind(tried, actions),
                // An instance that this link must not run may be in any state, so `decide` chooses whether to join it.
                (Some(tried), None) if self.elsewhere => self.hold(now, tried, None, actions),
                // A join that came through, without its instance now, is not a reference to anything.
                (Some(tried), None) => {
                    if let Some(found) = view.found.clone() {
                        self.hold(now, tried, Some(found), actions);
                    }
                }
                (None, Some(_)) => return self.end(Outcome::Lost, actions),
                (None, None) => {}
            },
            (None, Some(_)) => return self.end(Outcome::Lost, actions),
            (None, None) => {}
        }
        if let Some(serving) = &mut self.serving {
            let Some(mine) = mine.filter(|mine| mine.fence == serving.found.fence) else {
                return self.end(Outcome::Lost, actions);
            };
            // A publication without an answer may have been applied.
            serving.found = mine.clone();
            if self.kept != view.others {
                self.kept = view.others;
                actions.push(Action::Keep(view.others));
            }
        }
        self.doubt = false;
        // The read may be older than the change.
        if !std::mem::take(&mut self.changed) {
            self.view = Some(view);
        }
    }
}
