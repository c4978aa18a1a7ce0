//! The invariants that hold in every schedule.

use std::hash::{Hash as _, Hasher as _};

use super::hash::StateHasher;
use super::machine::Machine;
use super::process::Sim;
use super::process_table::{ClientProcess, Kind, ProcId, Service};
use super::scenario::{Act, By, RELEASE_HANDLE, Scenario};
use crate::engine::resolved_instance::ResolvedInstance;
use crate::error::Error;
use crate::info::ServiceInfo;
use crate::kernel::Instance;
use crate::kernel::semset::{decode, slot};
use crate::kernel::sim::SetId;

const WAIT_REMOVED: &str = "wait for the removal of the set";

impl Machine {
    /// Checks the invariants after a step.
    pub(super) fn check(&mut self) {
        if self.over || self.repeats || self.violation.is_some() {
            return;
        }
        if let Some(two) = self.second_instance() {
            self.violate(two);
        }
        if self.lock_has_no_holder() {
            self.violate("G9: no process holds the lock");
        }
        let unrecorded = self.instances().any(|(_, it)| {
            let alive = || {
                let found = self.find_process(it.identity.pid);
                found.is_some_and(|id| self.identity(id) == it.identity)
            };
            it.is_serving() && self.recorded() != Some(it.identity) && alive()
        });
        if unrecorded && !self.removed() {
            self.violate("G6: a serving instance has no record");
        }
        if let Some(wrong) = self.wrong_count() {
            self.violate(wrong);
        }
    }

    /// Marks exited instances that no client holds.
    pub(super) fn mark_unreferenced(&mut self) {
        let table = &self.state.table;
        let mut values = table.ids().filter_map(|id| table.values(id));
        if self.scenario.recover.is_none() || values.any(|values| values[slot::REFS as usize] > 0) {
            return;
        }
        for proc in self.state.procs.iter_mut().filter(|proc| !proc.alive) {
            if let Kind::Service(service) = &mut proc.kind {
                service.forsaken = true;
            }
        }
    }

    /// `on_recover` may be called only for an instance that a client held until it ended.
    pub(super) fn called_to_recover(&mut self, by: ProcId, pid: u32) {
        let newest = self
            .services()
            .filter(|(_, proc, _)| proc.pid == pid)
            .last();
        let forsaken = newest.filter(|(.., it)| it.forsaken).map(|(id, ..)| id);
        if let Some(old) = forsaken {
            let (by, old) = (self.name(by), self.name(old));
            self.violate(format!(
                "{by} called on_recover for {old}, which no client has held since it ended"
            ));
        }
    }

    /// G1. A worker counts as its service while a process exists that could stop it.
    fn second_instance(&self) -> Option<String> {
        let mut live: Vec<ProcId> = self
            .services()
            .filter(|(id, proc, it)| {
                let worker = it.of != *id;
                let nobodys = worker && it.parent.is_some_and(|parent| !self.is_alive(parent));
                proc.alive && it.executing && !it.replaced && !it.bereft && !nobodys
            })
            .map(|(_, _, it)| it.of)
            .collect();
        live.sort_unstable();
        live.dedup();
        match live[..] {
            [one, other, ..] => {
                let (one, other) = (self.name(one), self.name(other));
                Some(format!("G1: {one} and {other} live at the same time"))
            }
            _ => None,
        }
    }

    fn lock_has_no_holder(&self) -> bool {
        self.state.table.ids().any(|id| {
            let values = self.state.table.values(id);
            let value = values.map_or(0, |values| i32::from(values[slot::LOCK as usize]));
            value > 0 && value > self.held_by_living(id, slot::LOCK)
        })
    }

    fn held_by_living(&self, set: SetId, slot: u16) -> i32 {
        let lives = |pid: u32| {
            let mut procs = self.state.procs.iter();
            procs.any(|proc| proc.alive && proc.pid == pid)
        };
        self.state.table.goes_with(set, slot, lives)
    }

    /// While all clients only hold the service, the kernel's count is exact. This does not apply after a set
    /// was removed from outside.
    fn wrong_count(&self) -> Option<String> {
        let client = |id: ProcId| matches!(self.proc(id).kind, Kind::Client(_));
        let at_rest = |(id, label): (ProcId, &str)| !client(id) || label == RELEASE_HANDLE;
        if self.removed() || self.is_busy() || !self.labels().all(at_rest) {
            return None;
        }
        let holders = self.clients().filter(|(_, it)| !it.holds.is_empty());
        let holders = holders.count();
        let ids: Vec<SetId> = self.state.table.ids().collect();
        match ids[..] {
            [] if holders == 0 => None,
            [set] => {
                let count = self.state.table.values(set)?[slot::REFS as usize];
                (usize::from(count) != holders).then(|| {
                    format!(
                        "G2: {holders} processes hold the service, but the kernel counts {count}"
                    )
                })
            }
            _ => Some(format!(
                "G2: {holders} processes hold the service, but there are {} sets",
                ids.len()
            )),
        }
    }

    /// Returns `true` if a client is in a call to the library.
    pub(super) fn is_busy(&self) -> bool {
        self.clients().any(|(_, it)| it.calls > 0)
    }

    fn removed(&self) -> bool {
        self.state.left.removals < self.scenario.budget.removals
    }

    fn clients(&self) -> impl Iterator<Item = (ProcId, &ClientProcess)> {
        self.ids().filter_map(|id| match &self.proc(id).kind {
            Kind::Client(client) if self.is_alive(id) => Some((id, client)),
            _ => None,
        })
    }

    /// Checks the handle that `acquire` returned (G4).
    pub(super) fn acquired(
        &mut self,
        id: ProcId,
        current: &ResolvedInstance<Sim>,
        on: Option<SetId>,
    ) {
        let (instance, generation) = (&current.instance, current.generation);
        let by = self.name(id);
        let service = ProcId(instance.identity.start as usize - 1);
        let Some(it) = self.service_of(service) else {
            return self.violate(format!("G4: {by} acquired a process that is not a service"));
        };
        let Service {
            prepared,
            told,
            ill,
            replaced,
            ..
        } = *it;
        let (name, alive) = (self.name(service), self.is_alive(service));
        let meanwhile = &self.client(id).meanwhile.services;
        if prepared == 0 {
            self.violate(format!("G4: {by} acquired {name}, which was not prepared"));
        } else if !alive && !meanwhile.contains(&service) {
            self.violate(format!(
                "G4: {by} acquired {name}, which was dead before the call"
            ));
        } else if told && alive && !ill && !replaced && !self.removed() && !self.is_forced() {
            self.violate(format!("G4: {by} acquired {name}, which was being stopped"));
        }
        let sent = ServiceInfo::new(instance.identity.pid, 0).notified(self.notified(service));
        let info = &current.info;
        if info.port() != sent.port() || info.metadata_map() != sent.metadata_map() {
            self.violate(format!(
                "G4: {by} acquired {name} without the values that it sent"
            ));
        }
        if let Some(nobody) = self.missing_supervisor(id, instance, on) {
            self.violate(nobody);
        }
        if let Some(it) = self.service(service) {
            it.acquired = true;
        }
        let mut mix = StateHasher(3);
        let Instance {
            identity,
            ready,
            stopping,
            ..
        } = *instance;
        (identity, ready, stopping, generation, on).hash(&mut mix);
        let client = self.client(id);
        client.remembers = mix.finish();
        client.holds.push(service);
        client.on = on;
    }

    /// G3: a supervisor must exist. This does not apply if the supervisor was killed during the call, or
    /// while this process held the service, because no event reports that to a client.
    fn missing_supervisor(
        &self,
        id: ProcId,
        instance: &Instance,
        on: Option<SetId>,
    ) -> Option<String> {
        let told_nothing = |it: &ClientProcess| it.meanwhile.supervisor || !it.holds.is_empty();
        let told_nothing = self
            .clients()
            .any(|(other, it)| other == id && told_nothing(it));
        let values = self.state.table.values(on?)?;
        // The setting of the starter counts, not that of this client.
        let published = decode(values, true).instance;
        let published = published.filter(|it| it.identity == instance.identity);
        if published.unwrap_or(*instance).keep_orphan || told_nothing {
            return None;
        }
        let nobody = values[slot::SUPERVISOR as usize] == 0 && self.scenario.budget.crashes == 0;
        nobody.then(|| "G3: acquired without a live supervisor".to_owned())
    }

    /// Checks the error of a call. An error is accepted if an external event can cause it.
    pub(super) fn failed(&mut self, id: ProcId, operation: &'static str, error: &Error) {
        let (left, had) = (self.state.left, self.scenario.budget);
        let outside = left.supervisors < had.supervisors
            || left.crashes < had.crashes
            || left.illnesses < had.illnesses
            || left.failures < had.failures
            || left.removals < had.removals
            || left.time < had.time
            || left.refusals < had.refusals;
        let refused = left.refusals < had.refusals;
        if !outside || matches!(error, Error::Kernel { .. }) && !refused {
            let by = self.name(id);
            self.violate(format!("G4: {operation} by {by} failed: {error}"));
        }
        self.note(|| format!("    {operation} failed: {error}"));
    }

    /// Returns `true` if a client stops the service by force.
    fn is_forced(&self) -> bool {
        let mut acts = self.scenario.clients.iter().flatten();
        acts.any(|act| *act == Act::ForceStop)
    }

    /// Checks that no process stops a held or pinned service, except by force.
    pub(super) fn check_stop(&mut self, by: ProcId, service: ProcId) {
        let a_client = matches!(self.proc(by).kind, Kind::Client(_));
        let (name, by) = (self.name(service), self.name(by));
        if let Some(holder) = self.holder_of(service).filter(|_| !self.is_forced()) {
            let holder = self.name(holder);
            self.violate(format!("G1: {by} stops {name} while {holder} holds it"));
        }
        let table = &self.state.table;
        let pinned = {
            let mut values = table.ids().filter_map(|id| table.values(id));
            values.any(|values| values[slot::PIN as usize] > 0)
        };
        // A supervisor that was killed may have begun to stop the service. The next process finishes that
        // stop.
        let begun_before = self.state.left.supervisors < self.scenario.budget.supervisors;
        let well = |it: &&Service| !it.ill && !it.told && it.prepared > 0;
        let Some(well) = self.service_of(service).filter(well) else {
            return;
        };
        if pinned {
            self.violate(format!("{by} stops {name}, which is pinned"));
        } else if a_client && well.acquired && !begun_before && self.is_lingering(service) {
            self.violate(format!("R4: {by} stops {name}, which lingers"));
        }
    }

    /// Returns `true` if a supervisor exists that stops the service after its linger time.
    fn is_lingering(&self, service: ProcId) -> bool {
        let mut values = self
            .state
            .table
            .ids()
            .filter_map(|id| self.state.table.values(id));
        values.any(|values| {
            let told = decode(values, true);
            let named = |it: Instance| it.identity == self.identity(service) && it.linger_ms > 0;
            told.supervised && told.instance.is_some_and(named)
        })
    }

    /// `on_last_release` is called once, for a live service.
    pub(super) fn called_to_stop(&mut self, by: ProcId, pid: u32) {
        let found = self.find_process(pid);
        let Some(id) = found.filter(|&id| self.service_of(id).is_some()) else {
            // The service may have exited after the caller's check.
            if self.client(by).meanwhile.services.is_empty() {
                let by = self.name(by);
                self.violate(format!("{by} called on_last_release for no service"));
            }
            return;
        };
        let killed = self.state.left.clients < self.scenario.budget.clients || self.removed();
        self.check_stop(by, id);
        if let Some(service) = self.service(id) {
            service.released += 1;
            let again = service.released > 1 && !killed;
            // The callback may do anything, but procref sends no signal.
            service.told = true;
            if again {
                self.violate("on_last_release was called twice for an instance");
            }
        }
    }

    /// Returns the leftovers of the service.
    fn leftovers(&self) -> Vec<String> {
        let sets = self.state.table.ids().map(|_| "a set".to_owned());
        let record = self.state.record.iter().map(|_| "a record".to_owned());
        let note = (self.state.failures > 0).then(|| "a note of failed starts".to_owned());
        let procs = self.ids().filter(|&id| {
            let nobodys = |it: &Service| {
                it.of != id && it.parent.is_some_and(|parent| !self.is_alive(parent))
            };
            self.is_alive(id)
                && match &self.proc(id).kind {
                    Kind::Supervisor(_) => true,
                    Kind::Service(service) => !nobodys(service),
                    _ => false,
                }
        });
        let procs: Vec<String> = procs.map(|id| self.name(id)).collect();
        sets.chain(record).chain(note).chain(procs).collect()
    }

    /// Returns `true` if the leftovers are documented, and the next client cleans up.
    pub(super) fn needs_cleanup(&self) -> bool {
        // A process that waits for the end of such a service also waits for that cleanup.
        let mut labels = self.labels();
        let others = labels.any(|(id, label)| {
            matches!(self.proc(id).kind, Kind::Client(_)) && label != WAIT_REMOVED
        });
        !self.leftovers().is_empty() && self.is_accepted() && !others
    }

    /// Accepts the same leftovers as the storm, and no others.
    fn is_accepted(&self) -> bool {
        let (left, had) = (self.state.left, self.scenario.budget);
        if self.removed() {
            return true;
        }
        let mut values = self.state.table.ids();
        let values = values.find_map(|id| self.state.table.values(id));
        // No files or processes may remain without a set.
        let Some(values) = values else {
            // An exception is the note of a failed start, if the client that it was written for was killed.
            let killed = left.clients < had.clients;
            return killed && self.state.failures > 0 && self.state.record.is_none();
        };
        let at = |slot: u16| values[slot as usize];
        let instance = decode(values, true).instance;
        if at(slot::PIN) > 0 {
            return true;
        }
        let lives = |is_one: fn(&Kind) -> bool| {
            let mut procs = self.state.procs.iter();
            procs.any(|proc| proc.alive && is_one(&proc.kind))
        };
        // If a client releases normally, and no process dies during the release, nothing remains.
        if lives(|kind| matches!(kind, Kind::Supervisor(_))) || self.state.left_well {
            return false;
        }
        let supervisor_killed = left.supervisors < had.supervisors;
        if supervisor_killed || instance.is_some_and(|instance| instance.keep_orphan) {
            return true;
        }
        if lives(|kind| matches!(kind, Kind::Service(_))) {
            return false;
        }
        // A client was killed between the creation of the set and the start of a supervisor.
        let empty = at(slot::REFS) == 0 && at(slot::LOCK) == 0 && at(slot::SUPERVISOR) == 0;
        let killed = left.clients < had.clients;
        // A client whose first step was refused must remove the set, unless the client is killed.
        let refused = left.refusals < had.refusals;
        empty && instance.is_none() && (killed || !refused)
    }

    /// Returns a client that has not finished its script.
    fn unfinished(&self) -> Option<ProcId> {
        let waiting =
            |(id, _): (ProcId, &str)| matches!(self.proc(id).kind, Kind::Client(_)).then_some(id);
        let calls = |(id, client): (ProcId, &ClientProcess)| (client.calls > 0).then_some(id);
        self.labels()
            .find_map(waiting)
            .or_else(|| self.clients().find_map(calls))
    }

    /// Checks a final state.
    pub(super) fn check_end(&mut self) {
        if let Some(id) = self.unfinished() {
            let (name, at) = (self.name(id), self.waiting_at(id));
            return self.violate(format!("G4: {name} is stuck: {at}"));
        }
        let left = self.leftovers();
        if !left.is_empty() {
            let left = left.join(", ");
            return self.violate(format!("G6: left in the final state: {left}"));
        }
        let undisturbed = self.state.left == self.scenario.budget && !self.state.janitor;
        let Scenario {
            settings, second, ..
        } = *self.scenario;
        let plain = self.scenario.by == By::Callback && !settings.lingers;
        let odd = self.services().find(|(_, _, it)| {
            // If only one of the clients has the callback, the number of calls depends on which client is the
            // last.
            let released = second.is_some() || it.released == u8::from(plain);
            it.prepared != 1 || !released
        });
        let exits = self.scenario.clients.iter().flatten();
        let exits = exits.filter(|act| matches!(act, Act::Exit)).count() > 0;
        if let Some((id, _, it)) = odd.filter(|_| undisturbed && !exits) {
            let (prepared, released) = (it.prepared, it.released);
            let name = self.name(id);
            self.violate(format!(
                "{name} was prepared {prepared} times, and on_last_release called {released} times"
            ));
        }
    }
}
