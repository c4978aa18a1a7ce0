//! What can happen next, and what then is.

use super::machine::Machine;
use super::process_table::{Kind, ProcId, Supervisor};
use super::yield_points::{Able, PointId};
use crate::kernel::sim::SetId;

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    Step(PointId),
    /// The service becomes ready.
    Ready(ProcId),
    /// The service ends, as it was told to.
    Ends(ProcId),
    /// What was forked for a service sees that its gate will not open, and ends.
    LeavesGate(ProcId),
    /// These only as often as the scenario allows.
    Kill(ProcId),
    Crash(ProcId),
    FallsIll(ProcId),
    Suspend(ProcId),
    Remove(SetId),
    /// A person continues what is suspended, after no client has.
    Continue,
    /// Somebody comes who cleans up after crashes.
    Janitor,
}

/// What may happen from outside, and how often.
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
    /// Of arrays that are undone: the kernel has no memory to note that.
    pub(super) refusals: u8,
}

impl Machine {
    /// What can happen next: first what goes on by itself, and how much that is.
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
        // The process that moved last goes on first: the shortest counterexamples have few switches.
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
                outside.push(Choice::FallsIll(id));
            }
        }
        if choices.is_empty() && self.suspended().is_some() && !self.is_busy() {
            choices.push(Choice::Continue);
        }
        if self.state.janitor {
            let by_itself = choices.len();
            return (choices, by_itself);
        }
        if choices.is_empty() && self.needs_janitor() {
            choices.push(Choice::Janitor);
        }
        let left = &self.state.left;
        for id in self.ids().filter(|&id| self.is_alive(id)) {
            let may = match &self.proc(id).kind {
                // One that is killed before it has begun has never come.
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
            let counted = |it: &Supervisor| it.counted && !it.suspended;
            if left.suspensions > 0
                && matches!(&self.proc(id).kind, Kind::Supervisor(it) if counted(it))
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

    /// Whether another process goes on than the one that could have. One that goes on only because its time
    /// is up has let the others go first.
    pub(super) fn cuts_in(&self, choice: Choice) -> bool {
        let (Choice::Step(id), Some(last)) = (choice, self.last) else {
            return false;
        };
        let mut points = self.points.iter();
        last != id.proc
            && points.any(|(&it, point)| it.proc == last && self.is_enabled(it, point) == Able::Now)
    }

    /// Takes note of who goes on.
    pub(super) fn switch(&mut self, choice: Choice) {
        let Choice::Step(id) = choice else {
            return;
        };
        self.state.procs[id.proc.0].begun = true;
        self.last = Some(id.proc);
    }

    /// What happens beside the steps of a task.
    pub(super) fn happen(&mut self, choice: Choice) {
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
                self.bereave();
                self.end(id);
            }
            Choice::Crash(id) => {
                self.state.left.crashes -= 1;
                self.end(id);
            }
            Choice::FallsIll(id) => {
                self.state.left.illnesses -= 1;
                self.service(id).expect("a service").ill = true;
            }
            Choice::Suspend(id) => {
                self.state.left.suspensions -= 1;
                self.supervisor(id).suspended = true;
            }
            Choice::Continue => self.resume(),
            Choice::Janitor => self.state.janitor = true,
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

    /// The state that something leads to, if no future has to be polled for that: who dies of it is dropped, and
    /// that changes nothing.
    pub(super) fn foresee(&mut self, choice: Choice) -> Option<u64> {
        if matches!(choice, Choice::Step(_) | Choice::Janitor) {
            return None;
        }
        let before = self.state.clone();
        self.happen(choice);
        self.forsake();
        let after = self.hash();
        self.state = before;
        Some(after)
    }

    /// Somebody has died who may have been about to see to what is left.
    pub(super) fn bereave(&mut self) {
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
            Choice::LeavesGate(id) => format!("{} ends at its gate", self.name(id)),
            Choice::Kill(id) => format!("!! {} is killed", self.name(id)),
            Choice::Crash(id) => format!("!! {} crashes", self.name(id)),
            Choice::FallsIll(id) => format!("!! {} falls ill", self.name(id)),
            Choice::Suspend(id) => format!("!! {} is suspended", self.name(id)),
            Choice::Continue => "a person continues what is suspended".to_owned(),
            Choice::Janitor => "somebody comes who cleans up".to_owned(),
            Choice::Remove(_) => "!! somebody removes the set".to_owned(),
        }
    }
}
