//! The points at which a task can be interrupted, their conditions, and the observations of a process.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use super::hash::StateHasher;
use super::machine::Machine;
use super::mutations::Mutation;
use super::process_table::{ClientProcess, Kind, ProcId, Report, Service, Supervisor};
use crate::kernel::semset::{Op, Wait};
use crate::kernel::sim::SetId;
use crate::kernel::table::{Outcome, sleeps_for};

/// A point at which a task can be interrupted: process, task, and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PointId {
    pub(super) proc: ProcId,
    pub(super) task: u32,
    number: u32,
}

/// The condition of a step.
#[derive(Clone, Debug)]
pub(super) enum Until {
    Now,
    Performable(SetId, Vec<Op>),
    /// The sleep of a supervisor. The exit of its child or its time limit ends the sleep, too.
    Sleep {
        set: SetId,
        ops: Vec<Op>,
        timed: bool,
        child: Option<ProcId>,
    },
    /// The process has exited or, if `timed` is `true`, the time limit has expired.
    Ended {
        proc: ProcId,
        timed: bool,
    },
    /// The supervisor has reported or exited.
    Told(ProcId),
    /// The starter has confirmed or exited.
    Confirmed(ProcId),
    /// The service is ready, or its supervisor has reported the service's exit or has exited.
    ReadyOrEnded {
        service: ProcId,
        supervisor: ProcId,
    },
    Alarm(ProcId),
    AllGone(ProcId),
    /// A time limit that does not have to expire. It expires at most as often as the scenario allows.
    TimeUp,
    /// A waiting process detects that the supervisor is suspended.
    Suspended,
    Failure,
    Cancel,
}

#[derive(Debug)]
pub(super) struct Point {
    until: Until,
    pub(super) label: &'static str,
    /// `true` if the step is ready at once on a real machine, so that its future cannot be dropped in it.
    at_once: bool,
}

/// The condition under which a step is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Able {
    Now,
    /// The step is possible after time has passed, if no other step is possible.
    InTime,
    /// The step is possible after an optional event.
    Outside,
    Not,
}

impl Machine {
    pub(super) fn register(&mut self, until: Until, label: &'static str, at_once: bool) -> PointId {
        let (proc, task) = self.current.expect("a task polls its step");
        self.numbers += 1;
        let id = PointId {
            proc,
            task,
            number: self.numbers,
        };
        self.points.insert(
            id,
            Point {
                until,
                label,
                at_once,
            },
        );
        id
    }

    /// Returns the number of processes that sleep until a slot is 0.
    pub(super) fn sleepers(&self, set: SetId, slot: u16) -> Option<u32> {
        let values = self.state.table.values(set)?;
        let sleeps = |id: &PointId, point: &Point| match &point.until {
            Until::Performable(on, ops) | Until::Sleep { set: on, ops, .. } => {
                *on == set && self.is_alive(id.proc) && sleeps_for(ops, values, slot)
            }
            _ => false,
        };
        let count = self.points.iter().filter(|(id, point)| sleeps(id, point));
        u32::try_from(count.count()).ok()
    }

    /// Returns the point of the task that is polling now.
    pub(super) fn moved(&mut self, id: PointId) -> PointId {
        if self.current == Some((id.proc, id.task)) {
            return id;
        }
        let Some(point) = self.points.remove(&id) else {
            return id;
        };
        self.register(point.until, point.label, point.at_once)
    }

    /// Adds an observation to a process.
    pub(super) fn observe(
        &mut self,
        proc: ProcId,
        task: u32,
        label: &'static str,
        seen: &(impl Hash + Debug),
    ) {
        let proc = &mut self.state.procs[proc.0];
        let mut mix = StateHasher(proc.history);
        (task, label).hash(&mut mix);
        seen.hash(&mut mix);
        proc.history = mix.finish();
    }

    /// At a step that begins a round, a client with a single future does not depend on its observations of
    /// earlier rounds. The state of the machine has all that it depends on.
    pub(super) fn begin_round(
        &mut self,
        id: ProcId,
        round: &'static str,
        step: &(impl Hash + ?Sized),
    ) {
        let alone = self.current == Some((id, 0)) && self.live.get(&id) == Some(&1);
        let client = self.client(id);
        client.round = round;
        if !alone || client.unwell {
            return;
        }
        let mut mix = StateHasher(2);
        (client.at, client.remembers, round).hash(&mut mix);
        step.hash(&mut mix);
        let proc = &mut self.state.procs[id.0];
        proc.history = mix.finish();
        proc.tasks = 1;
    }

    /// Counts a task that begins or ends. A process without tasks has finished.
    pub(super) fn count_task(&mut self, id: ProcId, change: i32) {
        let live = self.live.entry(id).or_default();
        *live += change;
        if *live == 0 {
            let proc = &mut self.state.procs[id.0];
            proc.history = 0;
            if let Kind::Client(client) = &mut proc.kind {
                *client = ClientProcess::default();
            }
        }
    }

    /// After this step, `position` represents the history of the process.
    pub(super) fn forget_history(&mut self, proc: ProcId, position: (&'static str, bool)) {
        let mut mix = StateHasher(1);
        position.hash(&mut mix);
        self.state.procs[proc.0].history = mix.finish();
    }

    fn performable(&self, proc: ProcId, set: SetId, ops: &[Op]) -> bool {
        let outcome = self
            .state
            .table
            .try_out(self.pid(proc), set, ops, Wait::Yes);
        if outcome == Outcome::Gone && self.has(Mutation::RemovalWakesNobody) {
            return false;
        }
        outcome != Outcome::Sleeps
    }

    pub(super) fn is_enabled(&self, id: PointId, point: &Point) -> Able {
        let left = &self.state.left;
        let now = |enabled: bool| if enabled { Able::Now } else { Able::Not };
        let outside = |possible: bool| if possible { Able::Outside } else { Able::Not };
        match &point.until {
            _ if !self.is_next_to_begin(id.proc) || self.is_suspended(id.proc) => Able::Not,
            Until::Now => Able::Now,
            Until::Performable(set, ops) => now(self.performable(id.proc, *set, ops)),
            Until::Sleep {
                set,
                ops,
                timed,
                child,
            } => {
                let ended =
                    child.is_some_and(|child| !self.is_alive(child) && self.proc(child).zombie);
                if ended || self.performable(id.proc, *set, ops) {
                    Able::Now
                } else if *timed {
                    Able::InTime
                } else {
                    Able::Not
                }
            }
            Until::Ended { proc, timed } => {
                let told = |it: &Service| it.told && !it.killed;
                let stubborn = self.scenario.stubborn && self.service_of(*proc).is_some_and(told);
                if !self.is_alive(*proc) || *timed && stubborn {
                    Able::Now
                } else {
                    outside(*timed && left.time > 0)
                }
            }
            Until::Told(supervisor) => {
                let reports = !self.reports_of(*supervisor).reports.is_empty();
                now(reports || !self.is_alive(*supervisor))
            }
            Until::Confirmed(supervisor) => {
                let Supervisor {
                    confirmed, starter, ..
                } = self.reports_of(*supervisor);
                now(*confirmed || !self.is_alive(*starter) || self.has(Mutation::NoConfirm))
            }
            Until::ReadyOrEnded {
                service,
                supervisor,
            } => {
                let ready = self.service_of(*service).is_some_and(|it| it.ready);
                now(ready || self.is_alarmed(*supervisor))
            }
            Until::Alarm(supervisor) => now(self.is_alarmed(*supervisor)),
            Until::AllGone(supervisor) => {
                now(!self.reports_of(*supervisor).liveness || !self.is_alive(*supervisor))
            }
            // This check is periodic.
            Until::Suspended if self.finds_suspended() => Able::InTime,
            Until::Suspended => Able::Not,
            Until::TimeUp => outside(left.time > 0),
            Until::Failure => outside(left.failures > 0),
            Until::Cancel => {
                let mut others = self.points.range(
                    PointId { number: 0, ..id }..=PointId {
                        number: u32::MAX,
                        ..id
                    },
                );
                let busy = others.any(|(_, other)| other.at_once);
                outside(left.cancels > 0 && !busy)
            }
        }
    }

    pub(super) fn is_alarmed(&self, supervisor: ProcId) -> bool {
        let reports = &self.reports_of(supervisor).reports;
        reports.contains(&Report::Exited) || !self.is_alive(supervisor)
    }

    /// Equal clients differ only in the order in which they begin, so this order is fixed.
    fn is_next_to_begin(&self, id: ProcId) -> bool {
        let scripts = &self.scenario.clients;
        let same = |other: ProcId| scripts.get(other.0) == scripts.get(id.0);
        let begun = |id: ProcId| self.proc(id).begun || !self.is_alive(id);
        begun(id) || id.0 >= scripts.len() || (0..id.0).map(ProcId).all(|it| begun(it) || !same(it))
    }

    /// Returns the point of each task.
    pub(super) fn labels(&self) -> impl Iterator<Item = (ProcId, &str)> {
        self.points.iter().map(|(id, point)| (id.proc, point.label))
    }

    pub(super) fn waiting_at(&self, proc: ProcId) -> String {
        let mine = self.labels().filter(|(id, _)| *id == proc);
        let labels: Vec<&str> = mine.map(|(_, label)| label).collect();
        if labels.is_empty() {
            "no condition that it waits for can become true".to_owned()
        } else {
            format!("it waits at {}", labels.join(", "))
        }
    }
}
