//! The processes of the simulated machine: clients, supervisors, services, and processes that reuse a pid.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use super::hash::StateHasher;
use super::machine::Machine;
use super::mutations::Mutation;
use crate::kernel::Instance;
use crate::kernel::sim::SetId;
use crate::process::Identity;

/// The id of a process, including dead ones. Unlike a pid, it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProcId(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Report {
    Watching,
    Blocked,
    Registered,
    Launched,
    Exited,
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct ClientProcess {
    /// The instance of each handle that `acquire` has returned and whose release has not begun.
    pub(super) holds: Vec<ProcId>,
    /// The set of these references.
    pub(super) on: Option<SetId>,
    /// Number of library calls that have not returned.
    pub(super) calls: u32,
    /// The instance of the last handle. A process remembers nothing else of a service that it does not hold.
    pub(super) remembers: u64,
    /// Index of the current act in its script.
    pub(super) at: usize,
    /// An instance that this call has found unhealthy and will not use again.
    pub(super) unwell: bool,
    pub(super) meanwhile: SinceCall,
    /// `true` if its set was removed from outside, and the process has not noticed that.
    pub(super) bereft: bool,
    /// `true` while the process leaves, if no process was killed during that.
    pub(super) undisturbed: bool,
    /// Its position at the last step after which it depends on no earlier observation.
    pub(super) round: &'static str,
}

/// The processes that have exited after the first of a client's current calls began.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct SinceCall {
    /// Services. The call may return one of them.
    pub(super) services: BTreeSet<ProcId>,
    /// The supervisor, if it exited after the client took the reference or the lock. The client would have
    /// noticed an earlier exit.
    pub(super) supervisor: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Supervisor {
    pub(super) starter: ProcId,
    pub(super) reports: VecDeque<Report>,
    /// `true` if processes of the service may exist.
    pub(super) liveness: bool,
    pub(super) confirmed: bool,
    pub(super) child: Option<ProcId>,
    /// `true` if the set counts this supervisor, so that other processes can find it.
    pub(super) registered: bool,
    /// `true` while it is suspended.
    pub(super) suspended: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Service {
    /// `true` if its program was executed.
    pub(super) executing: bool,
    /// The gate, or `None` if it has none or has passed it.
    pub(super) gate: Option<ProcId>,
    pub(super) ready: bool,
    /// `true` if it was sent the stop signal.
    pub(super) told: bool,
    pub(super) killed: bool,
    pub(super) ill: bool,
    /// `true` if `on_recover` has returned another instance.
    pub(super) replaced: bool,
    /// `true` if an `acquire` has returned it.
    pub(super) acquired: bool,
    /// `true` if the set for its publication was removed during its start. No other process can find the
    /// service until its starter notices the removal.
    pub(super) bereft: bool,
    /// `true` if, at some moment after its exit, no client held a reference.
    pub(super) forsaken: bool,
    /// The process that runs the start callback. No other process knows this service before it is published.
    pub(super) spawner: Option<ProcId>,
    pub(super) parent: Option<ProcId>,
    /// The service that it belongs to: itself, or the one whose worker it is.
    pub(super) of: ProcId,
    pub(super) prepared: u8,
    pub(super) released: u8,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Kind {
    Client(ClientProcess),
    Supervisor(Supervisor),
    Service(Service),
    /// A process with the pid of a service that has ended.
    Stranger,
}

#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) alive: bool,
    /// `true` if it is dead and not reaped.
    pub(super) zombie: bool,
    /// The hash of its observations so far.
    pub(super) history: u64,
    pub(super) tasks: u32,
    pub(super) kind: Kind,
    /// `true` if it has made a step.
    pub(super) begun: bool,
}

impl Proc {
    /// Adds the part of the state that affects later steps. This excludes the history of dead processes.
    pub(super) fn mix(&self, state: &mut StateHasher, undisturbed: bool) {
        let Self {
            pid,
            start,
            alive,
            zombie,
            history,
            tasks,
            ref kind,
            begun,
        } = *self;
        (pid, start, alive, zombie).hash(state);
        match kind {
            Kind::Service(service) if !alive => {
                let Service {
                    ready,
                    forsaken,
                    of,
                    ..
                } = *service;
                (ready, forsaken, service.prepared > 0, of).hash(state);
                if undisturbed {
                    (service.prepared, service.released).hash(state);
                }
            }
            _ => (history, tasks, kind, begun).hash(state),
        }
    }
}

impl Machine {
    pub(super) fn add(&mut self, kind: Kind) -> ProcId {
        let id = ProcId(self.state.procs.len());
        let pid = match kind {
            Kind::Service(_) => {
                // The lowest free pid, so that pids are reused early.
                let taken = |pid: u32| {
                    let mut procs = self.state.procs.iter();
                    procs.any(|proc| proc.pid == pid && (proc.alive || proc.zombie))
                };
                (700..).find(|&pid| !taken(pid)).unwrap_or(0)
            }
            // Leave a distance between pids, so that their slots differ.
            _ => 100 + id.0 as u32,
        };
        self.state.procs.push(Proc {
            pid,
            start: id.0 as u64 + 1,
            alive: true,
            zombie: false,
            history: 0,
            tasks: 0,
            kind,
            begun: false,
        });
        id
    }

    pub(super) fn proc(&self, id: ProcId) -> &Proc {
        &self.state.procs[id.0]
    }

    pub(super) fn is_alive(&self, id: ProcId) -> bool {
        self.proc(id).alive
    }

    pub(super) fn pid(&self, id: ProcId) -> u32 {
        self.proc(id).pid
    }

    pub(super) fn identity(&self, id: ProcId) -> Identity {
        let Proc { pid, start, .. } = *self.proc(id);
        Identity { pid, start }
    }

    pub(super) fn client(&mut self, id: ProcId) -> &mut ClientProcess {
        match &mut self.state.procs[id.0].kind {
            Kind::Client(client) => client,
            other => unreachable!("{id:?} is no client: {other:?}"),
        }
    }

    pub(super) fn supervisor(&mut self, id: ProcId) -> &mut Supervisor {
        match &mut self.state.procs[id.0].kind {
            Kind::Supervisor(supervisor) => supervisor,
            other => unreachable!("{id:?} is no supervisor: {other:?}"),
        }
    }

    pub(super) fn reports_of(&self, id: ProcId) -> &Supervisor {
        match &self.proc(id).kind {
            Kind::Supervisor(supervisor) => supervisor,
            other => unreachable!("{id:?} is no supervisor: {other:?}"),
        }
    }

    pub(super) fn is_suspended(&self, id: ProcId) -> bool {
        let proc = self.proc(id);
        matches!(&proc.kind, Kind::Supervisor(it) if proc.alive && it.suspended)
    }

    pub(super) fn suspended(&self) -> Option<ProcId> {
        self.ids().find(|&id| self.is_suspended(id))
    }

    /// Returns `true` if a client that waits for a supervisor finds it suspended.
    pub(super) fn finds_suspended(&self) -> bool {
        self.suspended().is_some() && !self.has(Mutation::LeavesItSuspended)
    }

    /// Continues a suspended supervisor, as a client or a person does.
    pub(super) fn resume(&mut self) {
        if let Some(id) = self.suspended() {
            self.supervisor(id).suspended = false;
        }
    }

    pub(super) fn service(&mut self, id: ProcId) -> Option<&mut Service> {
        match &mut self.state.procs[id.0].kind {
            Kind::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(super) fn service_of(&self, id: ProcId) -> Option<&Service> {
        match &self.proc(id).kind {
            Kind::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ProcId> + use<> {
        (0..self.state.procs.len()).map(ProcId)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (ProcId, &Proc, &Service)> {
        self.ids().filter_map(|id| {
            let proc = self.proc(id);
            self.service_of(id).map(|service| (id, proc, service))
        })
    }

    /// Returns the live process with this pid.
    pub(super) fn find_process(&self, pid: u32) -> Option<ProcId> {
        self.ids().find(|&id| {
            let proc = self.proc(id);
            proc.pid == pid && proc.alive
        })
    }

    pub(super) fn spawn_service(
        &mut self,
        spawner: Option<ProcId>,
        parent: Option<ProcId>,
    ) -> ProcId {
        let of = ProcId(self.state.procs.len());
        let gate = parent.map(|supervisor| self.supervisor(supervisor).starter);
        let bereft = match spawner.or(gate).map(|starter| &self.proc(starter).kind) {
            Some(Kind::Client(client)) => client.bereft,
            _ => false,
        };
        self.add(Kind::Service(Service {
            executing: gate.is_none(),
            gate,
            ready: gate.is_none(),
            told: false,
            killed: false,
            ill: false,
            replaced: false,
            acquired: false,
            bereft,
            forsaken: false,
            spawner,
            parent,
            of,
            prepared: 0,
            released: 0,
        }))
    }

    /// Handles the end of a process. The run drops its futures.
    pub(super) fn end(&mut self, id: ProcId) {
        let proc = &mut self.state.procs[id.0];
        if !proc.alive {
            return;
        }
        proc.alive = false;
        proc.history = 0;
        let pid = proc.pid;
        if !self.has(Mutation::ReferencesOutliveTheirProcess) {
            self.state.table.end_process(pid);
        }
        match &mut self.state.procs[id.0].kind {
            Kind::Client(client) => {
                *client = ClientProcess::default();
                self.end_unpublished(id);
            }
            Kind::Supervisor(supervisor) => {
                supervisor.liveness = false;
                // The exit of the process also shows this.
                supervisor
                    .reports
                    .retain(|report| *report != Report::Exited);
                self.notify_clients(id);
            }
            Kind::Service(service) => {
                let parent = service.parent;
                let worker = service.of == id && service.executing && !service.told;
                let of = service.of;
                if parent.is_some_and(|parent| self.is_alive(parent)) {
                    self.state.procs[id.0].zombie = true;
                    if worker && self.scenario.workers {
                        self.leave_worker(of, parent);
                    }
                } else if !self.is_zombie_of_its_starter(id) {
                    self.reuse_pid(id);
                }
                self.notify_clients(id);
            }
            Kind::Stranger => {}
        }
        self.drop_reports();
    }

    /// Drops reports of dead processes to dead processes.
    fn drop_reports(&mut self) {
        for index in 0..self.state.procs.len() {
            let Proc { alive, kind, .. } = &self.state.procs[index];
            let Kind::Supervisor(supervisor) = kind else {
                continue;
            };
            let starter = supervisor.starter;
            if !alive && !self.is_alive(starter) {
                let supervisor = self.supervisor(ProcId(index));
                supervisor.reports.clear();
                supervisor.confirmed = false;
                supervisor.child = None;
            }
        }
    }

    /// Ends the unpublished service of a dead starter. No other process knows such a service. In the tests
    /// with real processes, it also exits with its starter.
    fn end_unpublished(&mut self, spawner: ProcId) {
        let unknown = |machine: &Self, id: ProcId| {
            let of = |it: &Service| it.spawner == Some(spawner);
            let identity = machine.identity(id);
            machine.service_of(id).is_some_and(of)
                && machine.is_alive(id)
                && !machine.published(identity)
        };
        let unpublished: Vec<_> = self.ids().filter(|&id| unknown(self, id)).collect();
        for id in unpublished {
            self.end(id);
        }
    }

    /// Returns `true` if the service ended before its starter. Its pid is not reused while the starter has
    /// not reaped it.
    fn is_zombie_of_its_starter(&self, id: ProcId) -> bool {
        let spawner = self.service_of(id).and_then(|it| it.spawner);
        spawner.is_some_and(|it| self.is_alive(it)) && !self.published(self.identity(id))
    }

    /// Returns `true` if a set or the record names the pid of the service. The starter does not clean up an
    /// identity that is only half published.
    fn published(&self, identity: Identity) -> bool {
        let others = |start: u64| start != 0 && start as usize <= self.state.procs.len();
        let named = self.instances().any(|(_, it)| {
            let Identity { pid, start } = it.identity;
            pid == identity.pid && (start == identity.start || !others(start))
        });
        named || self.recorded() == Some(identity)
    }

    pub(super) fn recorded(&self) -> Option<Identity> {
        self.state
            .record
            .as_ref()
            .and_then(|kept| kept.0.identity())
    }

    /// Returns the instances that the sets name.
    pub(super) fn instances(&self) -> impl Iterator<Item = (SetId, Instance)> {
        self.state.table.ids().filter_map(|id| {
            let values = self.state.table.values(id)?;
            let snapshot = crate::kernel::semset::decode(values, true);
            snapshot.instance.map(|instance| (id, instance))
        })
    }

    fn leave_worker(&mut self, of: ProcId, parent: Option<ProcId>) {
        let worker = self.spawn_service(None, None);
        let service = self.service(worker).expect("the process is a service");
        service.of = of;
        service.parent = parent;
    }

    /// Reaps a process.
    pub(super) fn reap(&mut self, id: ProcId) {
        if std::mem::take(&mut self.state.procs[id.0].zombie) {
            self.reuse_pid(id);
        }
    }

    /// Gives its pid to another process immediately.
    fn reuse_pid(&mut self, id: ProcId) {
        if !self.scenario.reuse_pids {
            return;
        }
        let pid = self.pid(id);
        let stranger = self.add(Kind::Stranger);
        self.state.procs[stranger.0].pid = pid;
    }

    fn notify_clients(&mut self, ended: ProcId) {
        let supervisor = matches!(self.proc(ended).kind, Kind::Supervisor(_));
        let worker = self.service_of(ended).is_some_and(|it| it.of != ended);
        for proc in &mut self.state.procs {
            if let Kind::Client(client) = &mut proc.kind {
                if client.calls > 0 && supervisor {
                    client.meanwhile.supervisor = true;
                } else if client.calls > 0 && !worker {
                    client.meanwhile.services.insert(ended);
                }
            }
        }
    }

    pub(super) fn name(&self, id: ProcId) -> String {
        match &self.proc(id).kind {
            Kind::Client(_) => format!("client {}", id.0),
            Kind::Supervisor(_) => format!("supervisor {}", id.0),
            Kind::Service(service) if service.of != id => format!("worker {}", id.0),
            Kind::Service(_) => format!("service {} (pid {})", id.0, self.pid(id)),
            Kind::Stranger => format!("stranger {} (pid {})", id.0, self.pid(id)),
        }
    }
}
