//! The choices of the explorer, and their effects.

use super::machine::Machine;
use super::process_table::{Kind, ProcId, Supervisor};
use super::yield_points::{Able, PointId};
use crate::kernel::sim::SetId;

/// A choice of the explorer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    Step(PointId),
    /// The service becomes ready.
    Ready(ProcId),
    /// The service exits after its stop signal.
    Ends(ProcId),
    /// A process at its gate detects that the gate will not open, and exits.
    LeavesGate(ProcId),
    /// The scenario's budget limits the following choices.
    Kill(ProcId),
    Crash(ProcId),
    BecomesUnhealthy(ProcId),
    Suspend(ProcId),
    Remove(SetId),
    /// A person continues the suspended supervisor, if no client has continued it.
    Continue,
    /// Another client begins, which cleans up after crashes.
    CleanupClient,
}

/// The external events that may occur, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) clients: u8,
    pub(super) supervisors: u8,
    pub(super) crashes: u8,
    pub(super) illnesses: u8,
    pub(super) suspensions: u8,
    pub(super) failures: u8,
    pub(super) removals: u8,
    pub(super) time: u8,
    pub(super) cancels: u8,
    /// The kernel has no memory for an undo entry.
    pub(super) refusals: u8,
}

impl Machine {
    /// Returns the possible choices and the number of those that need no external event. These choices come
    /// first.
    pub(super) fn choices(&self) -> (Vec<Choice>, usize) {
        let mut choices = Vec::new();
        let mut outside = Vec::new();
        for (&id, point) in &self.points {
            match self.is_enabled(id, point) {
                Able::Now | Able::InTime => choices.push(Choice::Step(id)),
                Able::Outside => outside.push(Choice::Step(id)),
                Able::Not => {}
            }
        }
        // The process that made the last step comes first, so that the shortest counterexamples have few
        // switches.
        if let Some(last) = self.last {
            choices.sort_by_key(|choice| !matches!(choice, Choice::Step(id) if id.proc == last));
        }
        for (id, _, service) in self.services().filter(|(_, proc, _)| proc.alive) {
            let worker = service.of != id;
            let starter_dead = service.gate.is_some_and(|starter| !self.is_alive(starter));
            let dies = service.killed || service.told && !self.scenario.stubborn;
            if dies && service.gate.is_none() {
                choices.push(Choice::Ends(id));
            } else if service.gate.is_some() && (starter_dead || service.told || service.killed) {
                choices.push(Choice::LeavesGate(id));
            } else if service.executing && !service.ready && !worker {
                choices.push(Choice::Ready(id));
            }
            let left = &self.state.left;
            if left.crashes > 0 && service.executing && !worker {
                outside.push(Choice::Crash(id));
            }
            if left.illnesses > 0 && service.executing && service.ready && !service.ill && !worker {
                outside.push(Choice::BecomesUnhealthy(id));
            }
        }
        if choices.is_empty() && self.suspended().is_some() && !self.is_busy() {
            choices.push(Choice::Continue);
        }
        if self.state.janitor {
            let by_itself = choices.len();
            return (choices, by_itself);
        }
        if choices.is_empty() && self.needs_cleanup() {
            choices.push(Choice::CleanupClient);
        }
        let left = &self.state.left;
        for id in self.ids().filter(|&id| self.is_alive(id)) {
            let may = match &self.proc(id).kind {
                // A kill before a client's first step is skipped, because it has the same effect as a
                // scenario without the client.
                Kind::Client(_) => {
                    let begun = self.proc(id).begun;
                    left.clients > 0 && begun && self.points.keys().any(|it| it.proc == id)
                }
                Kind::Supervisor(_) => left.supervisors > 0,
                _ => false,
            };
            if may {
                outside.push(Choice::Kill(id));
            }
            let registered = |it: &Supervisor| it.registered && !it.suspended;
            if left.suspensions > 0
                && matches!(&self.proc(id).kind, Kind::Supervisor(it) if registered(it))
            {
                outside.push(Choice::Suspend(id));
            }
        }
        if left.removals > 0 {
            outside.extend(self.state.table.ids().map(Choice::Remove));
        }
        let by_itself = choices.len();
        choices.extend(outside);
        (choices, by_itself)
    }

    /// Returns `true` if the choice interrupts a process that could continue. A process that continues
    /// because its time limit expired interrupts no other.
    pub(super) fn preempts(&self, choice: Choice) -> bool {
        let (Choice::Step(id), Some(last)) = (choice, self.last) else {
            return false;
        };
        let mut points = self.points.iter();
        last != id.proc
            && points.any(|(&it, point)| it.proc == last && self.is_enabled(it, point) == Able::Now)
    }

    /// Records the process that continues.
    pub(super) fn switch(&mut self, choice: Choice) {
        let Choice::Step(id) = choice else {
            return;
        };
        self.state.procs[id.proc.0].begun = true;
        self.last = Some(id.proc);
    }

    /// Performs an event other than a step of a task.
    pub(super) fn perform_event(&mut self, choice: Choice) {
        match choice {
            Choice::Step(id) => {
                self.granted = Some(id);
            }
            Choice::Ready(id) => self.service(id).expect("a service").ready = true,
            Choice::Ends(id) | Choice::LeavesGate(id) => self.end(id),
            Choice::Kill(id) => {
                match self.proc(id).kind {
                    Kind::Client(_) => self.state.left.clients -= 1,
                    _ => self.state.left.supervisors -= 1,
                }
                self.mark_unattended();
                self.end(id);
            }
            Choice::Crash(id) => {
                self.state.left.crashes -= 1;
                self.end(id);
            }
            Choice::BecomesUnhealthy(id) => {
                self.state.left.illnesses -= 1;
                self.service(id).expect("a service").ill = true;
            }
            Choice::Suspend(id) => {
                self.state.left.suspensions -= 1;
                self.supervisor(id).suspended = true;
            }
            Choice::Continue => self.resume(),
            Choice::CleanupClient => self.state.janitor = true,
            Choice::Remove(set) => {
                self.state.left.removals -= 1;
                self.state.table.remove(set);
                for proc in &mut self.state.procs {
                    match &mut proc.kind {
                        Kind::Client(client) => client.bereft = client.calls > 0,
                        Kind::Service(service) => service.bereft = !service.acquired,
                        _ => {}
                    }
                }
            }
        }
    }

    /// Returns the resulting state if no future must be polled to compute it. The futures of a process that
    /// dies are dropped, which changes nothing.
    pub(super) fn predict(&mut self, choice: Choice) -> Option<u64> {
        if matches!(choice, Choice::Step(_) | Choice::CleanupClient) {
            return None;
        }
        let before = self.state.clone();
        self.perform_event(choice);
        self.mark_unreferenced();
        let after = self.hash();
        self.state = before;
        Some(after)
    }

    /// Records the death of a process that might have cleaned up.
    pub(super) fn mark_unattended(&mut self) {
        self.state.left_well = false;
        for proc in &mut self.state.procs {
            if let Kind::Client(client) = &mut proc.kind {
                client.undisturbed = false;
            }
        }
    }

    pub(super) fn describe(&self, choice: Choice) -> String {
        match choice {
            Choice::Step(id) => {
                let label = self.points.get(&id).map_or("?", |point| point.label);
                format!("{}: {label}", self.name(id.proc))
            }
            Choice::Ready(id) => format!("{} is ready", self.name(id)),
            Choice::Ends(id) => format!("{} ends", self.name(id)),
            Choice::LeavesGate(id) => format!("{} exits at its gate", self.name(id)),
            Choice::Kill(id) => format!("!! {} is killed", self.name(id)),
            Choice::Crash(id) => format!("!! {} crashes", self.name(id)),
            Choice::BecomesUnhealthy(id) => format!("!! {} becomes unhealthy", self.name(id)),
            Choice::Suspend(id) => format!("!! {} is suspended", self.name(id)),
            Choice::Continue => "a person continues the suspended supervisor".to_owned(),
            Choice::CleanupClient => "a cleanup client begins".to_owned(),
            Choice::Remove(_) => "!! the set is removed from outside".to_owned(),
        }
    }
}
