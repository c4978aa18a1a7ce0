//! The simulated machine: its kernel, its record, and its state.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::choices::Budget;
use super::hash::StateHasher;
use super::mutations::Mutation;
use super::process_table::{Proc, ProcId};
use super::runner::Spawned;
use super::scenario::Scenario;
use super::yield_points::{Point as YieldPoint, PointId};
use crate::crash::Point;
use crate::kernel::semset::slot;
use crate::kernel::sim::Table;
use crate::process::Identity;
use crate::record::Record;

/// The record, compared by the instance that it names and by the values that the instance sent.
#[derive(Clone, Debug)]
pub(super) struct HashedRecord(pub(super) Record);

impl Hash for HashedRecord {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.identity(), self.0.is_hosted()).hash(state);
        (self.0.port(), self.0.has_metadata()).hash(state);
    }
}

/// The state of the machine. Equal states have the same future.
#[derive(Clone)]
pub(super) struct State {
    pub(super) table: Table,
    pub(super) record: Option<HashedRecord>,
    /// Number of failed starts in the note for waiting clients.
    pub(super) failures: u32,
    pub(super) procs: Vec<Proc>,
    pub(super) left: Budget,
    /// `true` after a cleanup client has begun.
    pub(super) janitor: bool,
    /// `true` if the last client has released normally, and no process was killed during its release.
    pub(super) left_well: bool,
}

pub(super) struct Machine {
    pub(super) state: State,
    /// The process that made the last step.
    pub(super) last: Option<ProcId>,
    pub(super) scenario: std::sync::Arc<Scenario>,
    pub(super) points: BTreeMap<PointId, YieldPoint>,
    pub(super) granted: Option<PointId>,
    /// `true` while a step must be ready at once, because the engine drops the future otherwise.
    pub(super) at_once: bool,
    /// The running task.
    pub(super) current: Option<(ProcId, u32)>,
    pub(super) numbers: u32,
    pub(super) spawned: Vec<Spawned>,
    pub(super) violation: Option<String>,
    pub(super) trace: Option<Vec<String>>,
    /// The instance that each client has read last.
    pub(super) named: BTreeMap<ProcId, Identity>,
    /// The join that the running task makes next, named by its place in the engine. Never set between two steps.
    pub(super) joins_at: Option<(ProcId, Point)>,
    /// Number of tasks of each process.
    pub(super) live: BTreeMap<ProcId, i32>,
    /// For mutations: the values that each client has read last, and the process that has just taken the
    /// lock.
    pub(super) looks: BTreeMap<ProcId, crate::kernel::semset::Values>,
    pub(super) locked_just_now: Option<ProcId>,
    /// For a mutation: a record that a client writes after its next publication.
    pub(super) late_record: Option<Record>,
    /// `true` after the run has ended, so that dropped values do nothing.
    pub(super) over: bool,
    /// `true` while the run repeats steps in which every invariant held.
    pub(super) repeats: bool,
}

impl Machine {
    /// Returns the hash of the state.
    pub(super) fn hash(&self) -> u64 {
        let mut mix = StateHasher(0);
        let State {
            table,
            record,
            failures,
            procs,
            left,
            janitor,
            left_well,
        } = &self.state;
        (table, record, failures, left, janitor, left_well).hash(&mut mix);
        let undisturbed = *left == self.scenario.budget;
        for proc in procs {
            proc.mix(&mut mix, undisturbed);
        }
        if self.scenario.bound.is_some() {
            self.last.hash(&mut mix);
        }
        mix.finish()
    }

    pub(super) fn new(scenario: &std::sync::Arc<Scenario>, traced: bool) -> Self {
        Self {
            state: State {
                table: Table::default(),
                record: None,
                failures: 0,
                procs: Vec::new(),
                left: scenario.budget,
                janitor: false,
                left_well: false,
            },
            last: None,
            scenario: std::sync::Arc::clone(scenario),
            points: BTreeMap::new(),
            granted: None,
            at_once: false,
            current: None,
            numbers: 0,
            spawned: Vec::new(),
            violation: None,
            trace: traced.then(Vec::new),
            named: BTreeMap::new(),
            joins_at: None,
            live: BTreeMap::new(),
            looks: BTreeMap::new(),
            locked_just_now: None,
            late_record: None,
            over: false,
            repeats: false,
        }
    }

    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.scenario.mutation == Some(mutation)
    }

    /// Records a violation. Only the first one counts.
    pub(super) fn violate(&mut self, what: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(what.into());
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Returns one line that describes the sets.
    pub(super) fn describe_sets(&self) -> String {
        let mut line = String::new();
        for id in self.state.table.ids() {
            if let Some(values) = self.state.table.values(id) {
                let at = |slot: u16| values[slot as usize];
                line += &format!(
                    "refs {} lock {} sup {} tree {} pin {} gen {} pid {} flags {}",
                    at(slot::REFS),
                    at(slot::LOCK),
                    at(slot::SUPERVISOR),
                    at(slot::TREE),
                    at(slot::PIN),
                    at(slot::GENERATION),
                    at(slot::PID.start),
                    at(slot::FLAGS),
                );
            }
        }
        if line.is_empty() {
            line += "no set";
        }
        line
    }
}
