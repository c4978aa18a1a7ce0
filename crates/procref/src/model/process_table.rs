//! The processes of the made-up machine: clients, supervisors, services, and who has the pid of one that is gone.

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use super::hash::Mix;
use super::machine::Machine;
use super::mutations::Mutation;
use crate::kernel::Instance;
use crate::kernel::sim::SetId;
use crate::process::Identity;

/// A process, dead ones included. Never given out again, other than its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProcId(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    InPlace,
    NotInPlace,
    Counted,
    Published,
    Ended,
}

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct ClientProcess {
    /// The instance of each handle that `acquire` has returned, and whose release has not begun.
    pub(super) holds: Vec<ProcId>,
    /// The set that they are on.
    pub(super) on: Option<SetId>,
    /// Calls to the library that have not returned.
    pub(super) calls: u32,
    /// The instance that the last of them was of: all that a process remembers of a service that it does not
    /// hold.
    pub(super) remembers: u64,
    /// Which act of its script it is at.
    pub(super) at: usize,
    /// In this call it has found an instance that is not well, and will not take that again.
    pub(super) unwell: bool,
    pub(super) meanwhile: Meanwhile,
    /// Somebody has removed its set, which it does not know yet.
    pub(super) bereft: bool,
    /// It is letting go, and since it began nobody was killed.
    pub(super) undisturbed: bool,
    /// Where it was when it had forgotten all before.
    pub(super) round: &'static str,
}

/// What has ended since the first of a client's calls began.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Meanwhile {
    /// So they may be what it returns.
    pub(super) services: BTreeSet<ProcId>,
    /// Since it has the reference, or the lock: before that it would have seen it.
    pub(super) supervisor: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Supervisor {
    pub(super) starter: ProcId,
    pub(super) said: VecDeque<Said>,
    /// There may be processes of the service.
    pub(super) presence: bool,
    pub(super) word: bool,
    pub(super) child: Option<ProcId>,
    /// The set says that it is there, so others can find it.
    pub(super) counted: bool,
    /// It makes no step until a client continues it.
    pub(super) suspended: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Service {
    /// Its program runs.
    pub(super) executing: bool,
    /// `None`: it never had a gate, or went through it.
    pub(super) gate: Option<ProcId>,
    pub(super) ready: bool,
    /// Somebody has asked it to end.
    pub(super) told: bool,
    pub(super) killed: bool,
    pub(super) ill: bool,
    /// `on_recover` has returned another one.
    pub(super) replaced: bool,
    /// An `acquire` has returned it.
    pub(super) acquired: bool,
    /// Its start was under way when somebody removed the set that it was to be published in: nobody else can
    /// know of it, until its starter notices.
    pub(super) bereft: bool,
    /// There was a moment since it ended at which nobody had a reference.
    pub(super) forsaken: bool,
    /// The start callback's process. Nobody else knows of it until it is published.
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
    /// Has the pid of a service that has ended.
    Stranger,
}

#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) alive: bool,
    /// Dead, and its parent has not taken note.
    pub(super) zombie: bool,
    /// Everything it has observed so far.
    pub(super) history: u64,
    pub(super) tasks: u32,
    pub(super) kind: Kind,
    /// Has made a step.
    pub(super) begun: bool,
}

impl Proc {
    /// As far as anything depends on it: not on what the dead were like.
    pub(super) fn mix(&self, state: &mut Mix, undisturbed: bool) {
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
                // The lowest that is free: a pid comes round as soon as it can.
                let taken = |pid: u32| {
                    let mut procs = self.state.procs.iter();
                    procs.any(|proc| proc.pid == pid && (proc.alive || proc.zombie))
                };
                (700..).find(|&pid| !taken(pid)).unwrap_or(0)
            }
            // Apart, so that the slots for their names are.
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

    pub(super) fn told_by(&self, id: ProcId) -> &Supervisor {
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

    /// Returns `true` if a client that waits for a supervisor finds that it is suspended.
    pub(super) fn finds_suspended(&self) -> bool {
        self.suspended().is_some() && !self.has(Mutation::LeavesItSuspended)
    }

    /// A client, or a person, continues whatever supervisor is suspended.
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

    pub(super) fn as_service(&self, id: ProcId) -> Option<&Service> {
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
            self.as_service(id).map(|service| (id, proc, service))
        })
    }

    /// The process that has this pid, if it is alive.
    pub(super) fn look_up(&self, pid: u32) -> Option<ProcId> {
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

    /// A process has ended, in whatever way. Its futures are dropped by the run.
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
                supervisor.presence = false;
                // Its end tells as much.
                supervisor.said.retain(|said| *said != Said::Ended);
                self.tell_clients(id);
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
                    self.take_over_pid(id);
                }
                self.tell_clients(id);
            }
            Kind::Stranger => {}
        }
        self.forget_words();
    }

    /// Nobody listens any more to what the dead have said to the dead.
    fn forget_words(&mut self) {
        for index in 0..self.state.procs.len() {
            let Proc { alive, kind, .. } = &self.state.procs[index];
            let Kind::Supervisor(supervisor) = kind else {
                continue;
            };
            let starter = supervisor.starter;
            if !alive && !self.is_alive(starter) {
                let supervisor = self.supervisor(ProcId(index));
                supervisor.said.clear();
                supervisor.word = false;
                supervisor.child = None;
            }
        }
    }

    /// What a start callback has spawned is unknown to anyone until it is published; the tests of real
    /// processes let it end with its starter, too.
    fn end_unpublished(&mut self, spawner: ProcId) {
        let unknown = |machine: &Self, id: ProcId| {
            let of = |it: &Service| it.spawner == Some(spawner);
            let identity = machine.identity(id);
            machine.as_service(id).is_some_and(of)
                && machine.is_alive(id)
                && !machine.published(identity)
        };
        let unpublished: Vec<_> = self.ids().filter(|&id| unknown(self, id)).collect();
        for id in unpublished {
            self.end(id);
        }
    }

    /// One that ends before its start callback's process knows more of it than the pid: nobody gets that as
    /// long as its parent has not taken note of its end.
    fn is_zombie_of_its_starter(&self, id: ProcId) -> bool {
        let spawner = self.as_service(id).and_then(|it| it.spawner);
        spawner.is_some_and(|it| self.is_alive(it)) && !self.published(self.identity(id))
    }

    /// Whether a set, or the record, names it. By its pid: half an identity is none of the starter's to tidy.
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

    /// What the sets tell.
    pub(super) fn instances(&self) -> impl Iterator<Item = (SetId, Instance)> {
        self.state.table.ids().filter_map(|id| {
            let values = self.state.table.values(id)?;
            let snapshot = crate::kernel::semset::decode(values, true);
            snapshot.instance.map(|instance| (id, instance))
        })
    }

    fn leave_worker(&mut self, of: ProcId, parent: Option<ProcId>) {
        let worker = self.spawn_service(None, None);
        let service = self.service(worker).expect("it is one");
        service.of = of;
        service.parent = parent;
    }

    /// Its parent has taken note of its end.
    pub(super) fn reap(&mut self, id: ProcId) {
        if std::mem::take(&mut self.state.procs[id.0].zombie) {
            self.take_over_pid(id);
        }
    }

    /// Somebody else gets its pid at once.
    fn take_over_pid(&mut self, id: ProcId) {
        if !self.scenario.reuse_pids {
            return;
        }
        let pid = self.pid(id);
        let stranger = self.add(Kind::Stranger);
        self.state.procs[stranger.0].pid = pid;
    }

    fn tell_clients(&mut self, ended: ProcId) {
        let supervisor = matches!(self.proc(ended).kind, Kind::Supervisor(_));
        let worker = self.as_service(ended).is_some_and(|it| it.of != ended);
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
