//! The made-up machine: its processes, its kernel, its one record, and what can happen next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use super::planted::Bug;
use super::run::Spawned;
use super::scenario::Scenario;
use crate::kernel::Instance;
use crate::kernel::semset::{Op, Wait, slot};
use crate::kernel::sim::{Outcome, SetId, Table};
use crate::process::Identity;
use crate::record::Record;

/// A process, dead ones included. Never given out again, other than its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProcId(pub(super) usize);

/// A moment at which a task can be switched away from: which process, which task of it, the how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PointId {
    pub(super) proc: ProcId,
    pub(super) task: u32,
    number: u32,
}

/// What a step waits for.
#[derive(Clone, Debug)]
pub(super) enum Until {
    Now,
    Performable(SetId, Vec<Op>),
    /// A supervisor's sleep, which its child's end and the end of its time end, too.
    Sleep {
        set: SetId,
        ops: Vec<Op>,
        timed: bool,
        child: Option<ProcId>,
    },
    /// The process is gone, or `timed`, its time is up.
    Ended {
        proc: ProcId,
        timed: bool,
    },
    /// The supervisor has said something, or is gone.
    Told(ProcId),
    /// The starter has given its word to this supervisor, or is gone.
    Word(ProcId),
    /// The service is ready; or its supervisor has told of its end, or is gone.
    ReadyOrEnded {
        service: ProcId,
        supervisor: ProcId,
    },
    Alarm(ProcId),
    AllGone(ProcId),
    /// A time limit that nothing needs to run out: only as often as the scenario allows.
    TimeUp,
    Failure,
    Cancel,
}

#[derive(Debug)]
pub(super) struct Point {
    until: Until,
    label: &'static str,
    /// On a real machine it is ready at once, so a future can not be dropped in it.
    at_once: bool,
}

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
    Remove(SetId),
    /// Somebody comes who cleans up after crashes.
    Janitor,
}

/// Whether a step can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Able {
    Now,
    /// When time has passed, and nothing else has happened.
    InTime,
    /// If something happens that need not.
    Outside,
    Not,
}

/// What may happen from outside, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) clients: u8,
    pub(super) supervisors: u8,
    pub(super) crashes: u8,
    pub(super) illnesses: u8,
    pub(super) failures: u8,
    pub(super) removals: u8,
    pub(super) time: u8,
    pub(super) cancels: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Said {
    InPlace,
    NotInPlace,
    Counted,
    Published,
    Ended,
}

#[derive(Debug, Default, Hash)]
pub(super) struct Client {
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
#[derive(Debug, Default, Hash)]
pub(super) struct Meanwhile {
    /// So they may be what it returns.
    pub(super) services: BTreeSet<ProcId>,
    pub(super) supervisor: bool,
}

#[derive(Debug, Hash)]
pub(super) struct Supervisor {
    pub(super) starter: ProcId,
    pub(super) said: VecDeque<Said>,
    /// There may be processes of the service.
    pub(super) presence: bool,
    pub(super) word: bool,
    pub(super) child: Option<ProcId>,
}

#[derive(Debug, Hash)]
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

#[derive(Debug, Hash)]
pub(super) enum Kind {
    Client(Client),
    Supervisor(Supervisor),
    Service(Service),
    /// Has the pid of a service that has ended.
    Stranger,
}

#[derive(Debug)]
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
    fn mix(&self, state: &mut Mix, undisturbed: bool) {
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

/// The record, by what it names.
#[derive(Clone, Debug)]
pub(super) struct Kept(pub(super) Record);

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.identity(), self.0.is_hosted()).hash(state);
    }
}

/// What makes a state: equal ones have the same future.
pub(super) struct State {
    pub(super) table: Table,
    pub(super) record: Option<Kept>,
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
    numbers: u32,
    pub(super) spawned: Vec<Spawned>,
    pub(super) violation: Option<String>,
    pub(super) trace: Option<Vec<String>>,
    /// The instance that each client has read of last.
    pub(super) named: BTreeMap<ProcId, Identity>,
    /// How many tasks each process has.
    live: BTreeMap<ProcId, i32>,
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
            procs,
            left,
            janitor,
            left_well,
        } = &self.state;
        (table, record, left, janitor, left_well).hash(&mut mix);
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

    pub(super) fn has(&self, bug: Bug) -> bool {
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

    // --- processes ---------------------------------------------------------------

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

    pub(super) fn client(&mut self, id: ProcId) -> &mut Client {
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
        if !self.has(Bug::ReferencesOutliveTheirProcess) {
            self.state.table.end_process(pid);
        }
        match &mut self.state.procs[id.0].kind {
            Kind::Client(client) => {
                *client = Client::default();
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

    // --- points ------------------------------------------------------------------

    pub(super) fn register(&mut self, until: Until, label: &'static str, at_once: bool) -> PointId {
        let (proc, task) = self.current.expect("a step is polled by its task");
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

    /// The point, of whatever task polls it now.
    pub(super) fn moved(&mut self, id: PointId) -> PointId {
        if self.current == Some((id.proc, id.task)) {
            return id;
        }
        let Some(point) = self.points.remove(&id) else {
            return id;
        };
        self.register(point.until, point.label, point.at_once)
    }

    /// What a process has seen becomes part of what it is.
    pub(super) fn observe(
        &mut self,
        proc: ProcId,
        task: u32,
        label: &'static str,
        seen: &(impl Hash + Debug),
    ) {
        let proc = &mut self.state.procs[proc.0];
        let mut mix = Mix(proc.history);
        (task, label).hash(&mut mix);
        seen.hash(&mut mix);
        proc.history = mix.finish();
    }

    /// A client that is at its one future, at a step with which a round begins: what it has seen in earlier
    /// rounds it has forgotten by now. What it remembers is told apart by the machine's own account of it.
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
        let mut mix = Mix(2);
        (client.at, client.remembers, round).hash(&mut mix);
        step.hash(&mut mix);
        let proc = &mut self.state.procs[id.0];
        proc.history = mix.finish();
        proc.tasks = 1;
    }

    /// A task has come, or ended. A process without any is at its end.
    pub(super) fn count_task(&mut self, id: ProcId, change: i32) {
        let live = self.live.entry(id).or_default();
        *live += change;
        if *live == 0 {
            let proc = &mut self.state.procs[id.0];
            proc.history = 0;
            if let Kind::Client(client) = &mut proc.kind {
                *client = Client::default();
            }
        }
    }

    /// From here on a process is what `position` says, whatever it has seen before.
    pub(super) fn forget_history(&mut self, proc: ProcId, position: (&'static str, bool)) {
        let mut mix = Mix(1);
        position.hash(&mut mix);
        self.state.procs[proc.0].history = mix.finish();
    }

    fn performable(&self, proc: ProcId, set: SetId, ops: &[Op]) -> bool {
        let outcome = self
            .state
            .table
            .try_out(self.pid(proc), set, ops, Wait::Yes);
        if outcome == Outcome::Gone && self.has(Bug::RemovalWakesNobody) {
            return false;
        }
        outcome != Outcome::Sleeps
    }

    fn is_enabled(&self, id: PointId, point: &Point) -> Able {
        let left = &self.state.left;
        let now = |enabled: bool| if enabled { Able::Now } else { Able::Not };
        let outside = |possible: bool| if possible { Able::Outside } else { Able::Not };
        match &point.until {
            _ if !self.is_next_to_begin(id.proc) => Able::Not,
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
                let stubborn = self.scenario.stubborn && self.as_service(*proc).is_some_and(told);
                if !self.is_alive(*proc) || *timed && stubborn {
                    Able::Now
                } else {
                    outside(*timed && left.time > 0)
                }
            }
            Until::Told(supervisor) => {
                let said = !self.told_by(*supervisor).said.is_empty();
                now(said || !self.is_alive(*supervisor))
            }
            Until::Word(supervisor) => {
                let Supervisor { word, starter, .. } = self.told_by(*supervisor);
                now(*word || !self.is_alive(*starter) || self.has(Bug::NoWord))
            }
            Until::ReadyOrEnded {
                service,
                supervisor,
            } => {
                let ready = self.as_service(*service).is_some_and(|it| it.ready);
                now(ready || self.is_alarmed(*supervisor))
            }
            Until::Alarm(supervisor) => now(self.is_alarmed(*supervisor)),
            Until::AllGone(supervisor) => {
                now(!self.told_by(*supervisor).presence || !self.is_alive(*supervisor))
            }
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
        let said = &self.told_by(supervisor).said;
        said.contains(&Said::Ended) || !self.is_alive(supervisor)
    }

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

    /// Clients that do the same are told apart by who begins first, and by nothing else. So the order in
    /// which they begin is given.
    fn is_next_to_begin(&self, id: ProcId) -> bool {
        let scripts = &self.scenario.clients;
        let same = |other: ProcId| scripts.get(other.0) == scripts.get(id.0);
        let begun = |id: ProcId| self.proc(id).begun || !self.is_alive(id);
        begun(id) || id.0 >= scripts.len() || (0..id.0).map(ProcId).all(|it| begun(it) || !same(it))
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
            Choice::Janitor => "somebody comes who cleans up".to_owned(),
            Choice::Remove(_) => "!! somebody removes the set".to_owned(),
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

/// A fast hash of good quality: what is multiplied and folded spreads over all bits.
pub(super) struct Mix(pub(super) u64);

impl Mix {
    fn add(&mut self, word: u64) {
        let product =
            u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xda94_2042_e4dd_58b5_u128;
        self.0 = (product as u64 ^ (product >> 64) as u64)
            .rotate_left(23)
            .wrapping_add(word);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.add(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let mut rest = bytes.len() as u64;
        for &byte in chunks.remainder() {
            rest = rest << 8 | u64::from(byte);
        }
        self.add(rest);
    }

    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.add(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        let mut last = Self(self.0);
        last.add(0x2545_f491_4f6c_dd1d);
        last.0
    }
}

impl Machine {
    /// Where each task is.
    pub(super) fn labels(&self) -> impl Iterator<Item = (ProcId, &str)> {
        self.points.iter().map(|(id, point)| (id.proc, point.label))
    }

    pub(super) fn waiting_at(&self, proc: ProcId) -> String {
        let mine = self.labels().filter(|(id, _)| *id == proc);
        let labels: Vec<&str> = mine.map(|(_, label)| label).collect();
        if labels.is_empty() {
            "nothing that it waits for can happen".to_owned()
        } else {
            format!("it waits at {}", labels.join(", "))
        }
    }
}
