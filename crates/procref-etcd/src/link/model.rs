//! The link on a simulated cluster, with deaths, pauses, cuts, lost and duplicate messages, and leases that end early or
//! late. One tick of the clock is one millisecond of [`Timing`].

use crate::link::{Action, Event, Link, Outcome};
use crate::registry::sim::Keys;
use crate::registry::{Lease, Reply, Request};

use crate::timing::{Millis, Timing};

mod explore;
mod host;

use host::{Host, Service, Wire};

/// Renewal is due after 1, the fuse fires at 2, the service is dead at 4. The lease ends at 5 at the earliest.
const TIMING: Timing = Timing {
    ttl: 6,
    margin: 2,
    grace: 1,
    latency: 1,
    reread: 3,
};
/// How much earlier or later than its time to live a lease may end, on the clock of a host.
const SKEW: Millis = 1;

/// A mistake in the program around the registry that the model must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mistake {
    /// A link starts the service although an instance is there.
    EnterBesideAnother,
    /// A renewal is an answered keep-alive, which a deposed leader can answer.
    KeepAlive,
    /// The fuse and the holder ignore that clocks differ.
    NoMargin,
    /// The fuse leaves no time for the grace.
    NoGrace,
    /// There is no fuse.
    NoFuse,
    /// The time of a proof is that of the answer.
    ProofAtAnswer,
    /// The keys are removed before the service is dead.
    StopNotAwaited,
    /// Each host may run the service, although it is at one host.
    RunsElsewhere,
}

/// What is left to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    /// Links that each host starts.
    links: u8,
    faults: u8,
    until: Millis,
}

/// A step of the world. Numbers are hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Begin(usize),
    Apply(usize),
    Answer(usize),
    Tell(usize),
    Wake(usize),
    Changed(usize),
    Stop(usize),
    Die(usize),
    Burn(usize),
    Late(usize),
    Resume(usize),
    Heal(usize),
    /// The request of a host that is cut off gets no answer.
    Fail(usize),
    Expire(Lease),
    Time,
    /// A leader that was deposed confirms a keep-alive, see [`Mistake::KeepAlive`].
    AnswerUnapplied(usize),
    // Faults.
    ApplyTwice(usize),
    LoseRequest(usize),
    LoseAnswer(usize),
    Crash(usize),
    Kill(usize),
    Pause(usize),
    Cut(usize),
}

impl Move {
    fn is_fault(self) -> bool {
        use Move::{ApplyTwice, Crash, Cut, Kill, LoseAnswer, LoseRequest, Pause};
        matches!(
            self,
            ApplyTwice(_) | LoseRequest(_) | LoseAnswer(_) | Crash(_) | Kill(_) | Pause(_) | Cut(_)
        )
    }
}

/// The cluster and its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Millis,
    budget: Budget,
    faulty: bool,
    mistake: Option<Mistake>,
    /// The only host that may run the service.
    at: Option<usize>,
    keys: Keys,
    hosts: Vec<Host>,
    last_fence: i64,
    /// How many instances were started.
    starts: u32,
    /// Whether a link that had waited for an instance became ready.
    answered: bool,
    /// Whether a link became ready whose first instance had stopped before that.
    begun_again: bool,
}

impl World {
    fn new(hosts: usize, budget: Budget, mistake: Option<Mistake>) -> Self {
        let host = |number: usize| Host {
            name: format!("h{number}"),
            links: 0,
            link: None,
            announced: false,
            waiting: false,
            begins_again: false,
            paused: false,
            cut: false,
            wire: Wire::Idle,
            late: None,
            service: None,
            start: None,
            fuse: None,
            tell_exited: false,
            tell_leftover: false,
        };
        let mut keys = Keys::default();
        keys.enters_beside_another = mistake == Some(Mistake::EnterBesideAnother);
        let hosts = (0..hosts).map(host).collect();
        Self {
            now: 0,
            budget,
            faulty: false,
            mistake,
            at: None,
            keys,
            hosts,
            last_fence: 0,
            starts: 0,
            answered: false,
            begun_again: false,
        }
    }

    /// Returns the same world, in which only host 0 may run the service.
    fn at_first_host(self) -> Self {
        Self {
            at: Some(0),
            ..self
        }
    }

    fn timing(&self) -> Timing {
        let margin = if self.mistake == Some(Mistake::NoMargin) {
            0
        } else {
            TIMING.margin
        };
        Timing { margin, ..TIMING }
    }

    /// Returns the steps that are possible now.
    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let faults = self.budget.faults > 0;
        for (number, host) in self.hosts.iter().enumerate() {
            let mut add = |possible: bool, step: fn(usize) -> Move| {
                let step = step(number);
                if possible && (faults || !step.is_fault()) {
                    moves.push(step);
                }
            };
            let running = host.link.is_some() && !host.paused;
            let sent = matches!(host.wire, Wire::Sent(_));
            let reached = sent && !host.cut;
            let keep_alive = self.mistake == Some(Mistake::KeepAlive);
            let alive = host
                .service
                .as_ref()
                .is_some_and(|service| service.dies_at.is_none());
            add(
                host.link.is_none() && host.links < self.budget.links,
                Move::Begin,
            );
            add(reached, Move::Apply);
            add(
                running && matches!(host.wire, Wire::Answered(_)),
                Move::Answer,
            );
            add(running && host.event().is_some(), Move::Tell);
            add(running && host.is_due(self.now), Move::Wake);
            add(running && (host.announced || host.waiting), Move::Stop);
            add(
                host.service
                    .as_ref()
                    .is_some_and(|service| service.dies_at.is_some()),
                Move::Die,
            );
            add(host.fuse.is_some_and(|fuse| self.now >= fuse), Move::Burn);
            add(host.late.is_some(), Move::Late);
            add(host.paused, Move::Resume);
            add(host.cut, Move::Heal);
            add(sent && host.cut && running, Move::Fail);
            add(
                running && host.wire == Wire::Idle && (host.announced || host.waiting),
                Move::Changed,
            );
            add(reached && host.late.is_none(), Move::ApplyTwice);
            add(reached && running && host.late.is_none(), Move::LoseRequest);
            add(
                running && matches!(host.wire, Wire::Answered(_)),
                Move::LoseAnswer,
            );
            add(
                reached && keep_alive && matches!(host.wire, Wire::Sent(Request::Rebind { .. })),
                Move::AnswerUnapplied,
            );
            add(alive, Move::Crash);
            add(host.link.is_some(), Move::Kill);
            add(running, Move::Pause);
            add(host.link.is_some() && !host.cut, Move::Cut);
        }
        let expiring = |granted: Millis| self.now >= granted + TIMING.ttl - SKEW;
        moves.extend(
            self.keys
                .leases()
                .filter(|(_, granted)| expiring(*granted))
                .map(|(lease, _)| Move::Expire(lease)),
        );
        if self.may_pass() {
            moves.push(Move::Time);
        }
        moves
    }

    /// Returns `true` if nothing must happen before the clock goes on.
    fn may_pass(&self) -> bool {
        self.now < self.budget.until
            && self
                .keys
                .leases()
                .all(|(_, granted)| self.now < granted + TIMING.ttl + SKEW)
            && self.hosts.iter().all(|host| {
                let running = host.link.is_some() && !host.paused;
                let waits = host.cut || host.wire == Wire::Idle;
                let dead = host
                    .service
                    .as_ref()
                    .and_then(|service| service.dies_at)
                    .is_none_or(|dies| self.now < dies);
                let burnt = host
                    .fuse
                    .is_none_or(|fuse| self.now < fuse + TIMING.latency);
                dead && burnt && (!running || (waits && !host.is_due(self.now)))
            })
    }

    /// Performs a step. Returns the promise that it breaks.
    fn perform(&mut self, step: Move) -> Result<(), String> {
        if step.is_fault() {
            self.budget.faults -= 1;
            self.faulty = true;
        }
        match step {
            Move::Begin(number) => {
                let timing = self.timing();
                let host = &mut self.hosts[number];
                host.links += 1;
                let session = (number as Lease * 256 + Lease::from(host.links)) << 24;
                let link = Link::new(timing, &host.name, session, false);
                let may_run = self.at.is_none_or(|at| at == number)
                    || self.mistake == Some(Mistake::RunsElsewhere);
                host.link = Some(if may_run { link } else { link.elsewhere() });
                self.link_step(number, Event::Changed)?;
            }
            Move::Apply(number) | Move::ApplyTwice(number) => {
                if let Wire::Sent(request) = self.hosts[number].wire.clone() {
                    let reply = self
                        .keys
                        .perform(self.now, &self.hosts[number].name, &request);
                    let host = &mut self.hosts[number];
                    host.wire = if host.link.is_some() {
                        Wire::Answered(reply)
                    } else {
                        Wire::Idle
                    };
                    if matches!(step, Move::ApplyTwice(_)) {
                        host.late = Some(request);
                    }
                }
            }
            Move::AnswerUnapplied(number) => {
                self.hosts[number].wire = Wire::Answered(Reply::Done(0))
            }
            Move::Answer(number) => {
                if let Wire::Answered(reply) = self.hosts[number].wire.clone() {
                    self.hosts[number].wire = Wire::Idle;
                    if self.mistake == Some(Mistake::ProofAtAnswer) {
                        let link = self.hosts[number].link.as_mut();
                        link.and_then(|link| link.request.as_mut())
                            .into_iter()
                            .for_each(|(_, sent)| *sent = self.now);
                    }
                    self.link_step(number, Event::Reply(reply))?;
                }
            }
            Move::LoseRequest(number) => {
                if let Wire::Sent(request) = self.hosts[number].wire.clone() {
                    self.hosts[number].late = Some(request);
                    self.no_answer(number)?;
                }
            }
            Move::LoseAnswer(number) | Move::Fail(number) => self.no_answer(number)?,
            Move::Late(number) => {
                if let Some(request) = self.hosts[number].late.take() {
                    self.keys
                        .perform(self.now, &self.hosts[number].name, &request);
                }
            }
            Move::Tell(number) => {
                if let Some(event) = self.hosts[number].event() {
                    self.hosts[number].mark_told(&event);
                    self.link_step(number, event)?;
                }
            }
            Move::Wake(number) => self.link_step(number, Event::Tick)?,
            Move::Changed(number) => self.link_step(number, Event::Changed)?,
            Move::Stop(number) => {
                self.hosts[number].announced = false;
                self.hosts[number].waiting = false;
                self.link_step(number, Event::Stop)?;
            }
            Move::Crash(number) | Move::Die(number) => self.service_dies(number)?,
            Move::Burn(number) if !self.faulty && self.hosts[number].link.is_some() => {
                let name = &self.hosts[number].name;
                return Err(format!("the fuse of {name} fires without a fault"));
            }
            Move::Burn(number) | Move::Kill(number) => self.hosts[number].lose_link(self.now),
            Move::Pause(number) => self.hosts[number].paused = true,
            Move::Resume(number) => self.hosts[number].paused = false,
            Move::Cut(number) => self.hosts[number].cut = true,
            Move::Heal(number) => self.hosts[number].cut = false,
            Move::Expire(lease) => {
                for name in self.keys.expire(lease) {
                    let host = self.hosts.iter().find(|host| host.name == name);
                    // A link that is paused cannot find out, so the fuse must have ended it.
                    let unaware = host.is_some_and(|host| host.announced && host.link.is_some());
                    if unaware {
                        return Err(format!("G10: {name} relies on a reference that has ended"));
                    }
                }
            }
            Move::Time => self.now += 1,
        }
        Ok(())
    }

    fn no_answer(&mut self, number: usize) -> Result<(), String> {
        self.hosts[number].wire = Wire::Idle;
        self.link_step(number, Event::Unknown)
    }

    fn link_step(&mut self, number: usize, event: Event) -> Result<(), String> {
        let now = self.now;
        let Some(link) = &mut self.hosts[number].link else {
            return Ok(());
        };
        for action in link.step(now, event) {
            let host = &mut self.hosts[number];
            match action {
                Action::Perform(request) => {
                    if host.wire != Wire::Idle {
                        return Err("two requests at once".to_owned());
                    }
                    host.wire = Wire::Sent(request);
                }
                Action::Fuse { link, .. } => {
                    let late = if self.mistake == Some(Mistake::NoGrace) {
                        TIMING.grace
                    } else {
                        0
                    };
                    host.fuse = (self.mistake != Some(Mistake::NoFuse)).then_some(link + late);
                }
                Action::Start(fence) => {
                    host.start = Some(fence);
                    self.start_service(number)?;
                }
                Action::Disarm => {
                    host.fuse = None;
                    host.begins_again = true;
                }
                Action::StopService => {
                    host.stop_service(now);
                    if self.mistake == Some(Mistake::StopNotAwaited) {
                        host.tell_exited = true;
                    }
                }
                Action::StopLeftover => {
                    host.stop_service(now);
                    host.tell_leftover = true;
                }
                Action::Wait => host.waiting = true,
                Action::Announce(_) => {
                    self.answered |= std::mem::take(&mut host.waiting);
                    self.begun_again |= std::mem::take(&mut host.begins_again);
                    host.announced = true;
                }
                Action::Keep(_) | Action::Revoke(_) => {}
                Action::Exit(outcome) => {
                    if outcome == Outcome::Lost && !self.faulty {
                        return Err(format!("{} lost its reference without a fault", host.name));
                    }
                    let has_served = host
                        .link
                        .as_ref()
                        .is_some_and(|link| link.serving.is_some());
                    if outcome == Outcome::ServiceGone && !host.announced && !has_served {
                        return Err(format!("{} gives up before it was ready", host.name));
                    }
                    host.lose_link(now);
                }
            }
        }
        Ok(())
    }

    fn start_service(&mut self, number: usize) -> Result<(), String> {
        if self.hosts[number].service.is_some() {
            return Ok(()); // procref waits until the previous service of this host is dead.
        }
        let Some(fence) = self.hosts[number].start.take() else {
            return Ok(());
        };
        if self.at.is_some_and(|at| at != number) {
            return Err(format!(
                "{} starts the service and must not run it",
                self.hosts[number].name
            ));
        }
        if let Some(other) = self.hosts.iter().find(|host| host.service.is_some()) {
            return Err(format!(
                "G1: {} starts the service while {} runs it",
                self.hosts[number].name, other.name
            ));
        }
        if fence <= self.last_fence {
            return Err(format!(
                "the fencing token {fence} follows {}",
                self.last_fence
            ));
        }
        self.last_fence = fence;
        self.starts += 1;
        self.hosts[number].service = Some(Service {
            fence,
            dies_at: None,
            told: false,
        });
        Ok(())
    }

    fn service_dies(&mut self, number: usize) -> Result<(), String> {
        let host = &mut self.hosts[number];
        host.service = None;
        host.tell_exited = host.link.is_some() && host.start.is_none();
        self.start_service(number)
    }

    /// Returns `true` if no host does anything any more.
    fn is_over(&self) -> bool {
        let idle =
            |host: &Host| host.link.is_none() && host.service.is_none() && host.wire == Wire::Idle;
        self.hosts
            .iter()
            .all(|host| idle(host) && host.late.is_none() && host.links == self.budget.links)
    }
}
