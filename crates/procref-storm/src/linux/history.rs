//! The history of a service: the reports of its clients, the faults, its log, and the deaths that the runner saw.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use procref_testkit::log::{Line, Tail};
use procref_testkit::observe::{Identity, now_ns};

use crate::linux::service::Service;
use crate::linux::stats::Stats;

/// Number of events that are kept for a report.
const KEPT_EVENTS: usize = 120;

/// A period in which a fault disturbed the service. It excuses what a client saw in this period.
#[derive(Clone, Debug)]
struct Disturbance {
    from: u64,
    /// `None` while the disturbance lasts.
    to: Option<u64>,
    cause: String,
}

/// The history of a service in a round. `checker.rs` checks each event.
pub struct History {
    pub service: Service,
    disturbances: Vec<Disturbance>,
    /// Instances that were killed, or that lived while unhealthy. A client may replace them at any time.
    pub(super) disturbed: BTreeSet<u32>,
    /// Processes that hold a reference, according to their reports.
    pub holders: BTreeSet<Identity>,
    /// Clients that have begun an orderly exit.
    pub(super) exiting: BTreeSet<Identity>,
    /// The time at which each client began its current step.
    pub(super) steps: BTreeMap<Identity, u64>,
    /// The time at which the last holder began the step in which it released the service.
    pub(super) released_at: u64,
    /// The time at which a client or a supervisor was last killed in this round. 0 if none was.
    died_at: u64,
    log: Tail,
    /// Instances that were live at the last check.
    live: Vec<Identity>,
    pub workers: Vec<Identity>,
    events: VecDeque<String>,
}

impl History {
    pub fn new(service: Service) -> Self {
        Self {
            log: Tail::new(service.log()),
            service,
            disturbances: Vec::new(),
            disturbed: BTreeSet::new(),
            holders: BTreeSet::new(),
            exiting: BTreeSet::new(),
            steps: BTreeMap::new(),
            released_at: 0,
            died_at: 0,
            live: Vec::new(),
            workers: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Returns `true` if a disturbance overlaps this period.
    pub(super) fn is_disturbed(&self, from: u64, to: u64) -> bool {
        let overlaps = |disturbance: &Disturbance| {
            disturbance.from <= to && disturbance.to.is_none_or(|end| end >= from)
        };
        self.disturbances.iter().any(overlaps)
    }

    /// Begins a disturbance, which lasts until [`History::end_disturbance`].
    pub fn begin_disturbance(&mut self, cause: String) {
        self.note(format!("--- {cause}"));
        self.disturbances.push(Disturbance {
            from: now_ns(),
            to: None,
            cause,
        });
    }

    pub fn end_disturbance(&mut self, cause: &str) {
        for disturbance in self.disturbances.iter_mut().rev() {
            if disturbance.cause == cause && disturbance.to.is_none() {
                disturbance.to = Some(now_ns());
            }
        }
    }

    /// Clears the data of the previous round. Its processes have exited, and the kernel may assign their pids
    /// again.
    pub fn begin_round(&mut self) {
        self.disturbances.clear();
        self.disturbed.clear();
        self.holders.clear();
        self.exiting.clear();
        self.steps.clear();
        self.workers.clear();
        (self.released_at, self.died_at) = (0, 0);
    }

    /// Records the exit of a client.
    pub fn record_exit(&mut self, client: Identity, killed: bool) {
        if !self.exiting.remove(&client) || killed {
            self.record_death();
        }
        self.steps.remove(&client);
    }

    /// Records the death of a supervisor, or of a process that may have held the service.
    pub fn record_death(&mut self) {
        self.died_at = now_ns();
    }

    /// Returns `true` if the last holder released the service normally, and no process was killed after that.
    /// In this case nothing may be left, regardless of earlier deaths.
    pub fn is_released_orderly(&self) -> bool {
        self.released_at > self.died_at
    }

    /// Returns `true` if a client or a supervisor was killed in this round.
    pub fn has_death(&self) -> bool {
        self.died_at > 0
    }

    pub fn mark_disturbed(&mut self, pid: u32) {
        self.disturbed.insert(pid);
    }

    /// Reads the new lines of the service's log. Returns the live instances, or an error if an instance has seen
    /// another one alive.
    pub fn read_log(&mut self, stats: &mut Stats) -> Result<Vec<Identity>, String> {
        for line in self.log.read_new() {
            match line {
                Line::Start(identity) => {
                    stats.starts += 1;
                    self.live.push(identity);
                    self.note(format!("    started {identity}"));
                }
                Line::Worker(identity) => self.workers.push(identity),
                Line::Stop(pid, reason) => self.note(format!("    exited {pid}: {reason}")),
                Line::Overlap(pid) => {
                    return Err(format!("two instances at once: {pid} met another one"));
                }
                Line::Callback(..) => {}
            }
        }
        self.live.retain(|identity| identity.is_live());
        stats.most_at_once = stats.most_at_once.max(self.live.len());
        Ok(self.live.clone())
    }

    /// Adds a line to the report.
    pub fn note(&mut self, text: String) {
        if self.events.len() == KEPT_EVENTS {
            self.events.pop_front();
        }
        let at = now_ns() / 1000 % 1_000_000_000;
        self.events.push_back(format!("{at:>9} {text}"));
    }

    /// Returns the last lines of the report.
    pub fn report(&self) -> String {
        let lines: Vec<_> = self.events.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    /// Returns the live processes that hold the service, according to their reports.
    pub fn live_holders(&self) -> Vec<Identity> {
        let live = self.holders.iter().filter(|holder| holder.is_live());
        live.copied().collect()
    }
}
