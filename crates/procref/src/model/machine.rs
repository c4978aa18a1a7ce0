//! The made-up machine: its kernel, its one record, and what makes its state.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::choices::Budget;
use super::hash::Mix;
use super::mutations::Mutation;
use super::process_table::{Proc, ProcId};
use super::runner::Spawned;
use super::scenario::Scenario;
use super::yield_points::{Point, PointId};
use crate::kernel::semset::slot;
use crate::kernel::sim::Table;
use crate::process::Identity;
use crate::record::Record;

/// The record, by what it names.
#[derive(Clone, Debug)]
pub(super) struct Kept(pub(super) Record);

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.identity(), self.0.is_hosted()).hash(state);
    }
}

/// What makes a state: equal ones have the same future.
#[derive(Clone)]
pub(super) struct State {
    pub(super) table: Table,
    pub(super) record: Option<Kept>,
    /// How many starts have failed, as the note for those who wait says.
    pub(super) failures: u32,
    pub(super) procs: Vec<Proc>,
    pub(super) left: Budget,
    /// A client has come that cleans up.
    pub(super) janitor: bool,
    /// A client has let go in an orderly way, and since it began nobody was killed.
    pub(super) left_well: bool,
}

pub(super) struct Machine {
    pub(super) state: State,
    /// Who made the last step.
    pub(super) last: Option<ProcId>,
    pub(super) scenario: std::sync::Arc<Scenario>,
    pub(super) points: BTreeMap<PointId, Point>,
    pub(super) granted: Option<PointId>,
    /// A step is made at once: the engine polls for one, and drops it if it is not.
    pub(super) at_once: bool,
    /// The task that runs.
    pub(super) current: Option<(ProcId, u32)>,
    pub(super) numbers: u32,
    pub(super) spawned: Vec<Spawned>,
    pub(super) violation: Option<String>,
    pub(super) trace: Option<Vec<String>>,
    /// The instance that each client has read of last.
    pub(super) named: BTreeMap<ProcId, Identity>,
    /// How many tasks each process has.
    pub(super) live: BTreeMap<ProcId, i32>,
    /// For planted bugs: what each client saw last, and who has just taken the lock.
    pub(super) looks: BTreeMap<ProcId, crate::kernel::semset::Values>,
    pub(super) locked_just_now: Option<ProcId>,
    /// The run is over: nothing that is dropped does anything.
    pub(super) over: bool,
    /// It has been here before, and everything held.
    pub(super) repeats: bool,
}

impl Machine {
    /// What makes this state.
    pub(super) fn hash(&self) -> u64 {
        let mut mix = Mix(0);
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
            live: BTreeMap::new(),
            looks: BTreeMap::new(),
            locked_just_now: None,
            over: false,
            repeats: false,
        }
    }

    pub(super) fn has(&self, bug: Mutation) -> bool {
        self.scenario.bug == Some(bug)
    }

    /// The first violation is the one that counts.
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

    /// One line about where things stand.
    pub(super) fn standing(&self) -> String {
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
