//! Supervisors on the simulated machine: the real life of a supervisor, over simulated operations.

use std::cell::Cell;
use std::time::Duration;

use procref_supervisor::life::{launch_and_watch, watch};
use procref_supervisor::ops::{LaunchHandshake, SubreaperOps, SupervisorOps};

use super::machine::Machine;
use super::mutations::{self, Mutation};
use super::process::{Process, SeenBySupervisor};
use super::process_table::{ProcId, Report};
use super::yield_points::Until;
use crate::kernel::semset::signal_safe::{Refused, SetCalls, SetResult, SignalSafeSet};
use crate::kernel::semset::{Op, Values, Wait};
use crate::kernel::sim::SetId;
use crate::kernel::table::Outcome;
use crate::kernel::{Ended, Instance};
use crate::launch::LaunchSpec;
use crate::process::Identity;

pub(super) async fn live(process: Process, set: SetId, spec: Option<LaunchSpec>) {
    let calls = SimCalls {
        process: process.clone(),
        set,
        child: Cell::new(None),
        noted: Cell::new(false),
        written: Cell::new(0),
    };
    let set = SignalSafeSet::new(&calls);
    match spec {
        None => {
            if set.supervise().await.is_ok() {
                process.report(Report::Watching);
                watch(set, &SimSupervisorOps::new(&calls)).await;
            }
        }
        Some(spec) => {
            let handshake = SimLaunchHandshake {
                calls: &calls,
                ops: SimSupervisorOps::new(&calls),
            };
            launch_and_watch(set, &handshake, spec).await;
        }
    }
    let id = process.id;
    let exit = |machine: &mut Machine| machine.end(id);
    process.call("exit", exit).await;
}

impl Process {
    fn report(&self, report: Report) -> bool {
        let id = self.id;
        let mut machine = self.lock();
        machine.note(|| format!("    reports {report:?}"));
        let supervisor = machine.supervisor(id);
        supervisor.registered |= matches!(report, Report::Watching | Report::Registered);
        supervisor.reports.push_back(report);
        let starter = supervisor.starter;
        machine.is_alive(starter)
    }
}

struct SimCalls {
    process: Process,
    set: SetId,
    child: Cell<Option<ProcId>>,
    /// `true` after this process has observed the exit of its child.
    noted: Cell<bool>,
    /// Number of times that this process has published something.
    written: Cell<u8>,
}

impl SimCalls {
    async fn arrays(&self, label: &'static str, ops: &[Op], wait: Wait) -> Outcome {
        let mutation = self.process.lock().scenario.mutation;
        let arrays = mutations::supervisor_arrays(mutation, ops, wait == Wait::Yes);
        let mut outcome = Outcome::Done;
        for ops in arrays {
            let (set, process) = (self.set, &self.process);
            let pid = process.lock().pid(process.id);
            let until = match wait {
                Wait::Yes => Until::Performable(set, ops.clone()),
                Wait::No => Until::Now,
            };
            let operate = |machine: &mut Machine| machine.state.table.operate(pid, set, &ops, wait);
            outcome = process.wait(label, until, operate).await;
            if outcome != Outcome::Done {
                break;
            }
        }
        outcome
    }
}

fn step(outcome: Outcome) -> SetResult<()> {
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::NotNow | Outcome::Sleeps => Err(Refused::NotNow),
        Outcome::Gone | Outcome::OutOfRange => Err(Refused::Gone),
    }
}

impl SetCalls for &SimCalls {
    type Limit = Limit;

    async fn operate(self, ops: &[Op]) -> SetResult<()> {
        let label = mutations::label(ops);
        self.written
            .set(self.written.get() + u8::from(label == mutations::WRITE));
        step(self.arrays(label, ops, Wait::No).await)
    }

    async fn operate_within(self, ops: &[Op], _: Duration) -> SetResult<()> {
        step(self.arrays(mutations::label(ops), ops, Wait::Yes).await)
    }

    async fn sleep(self, ops: &[Op], limit: &Limit) -> SetResult<()> {
        let (set, process) = (self.set, &self.process);
        let id = process.id;
        let label = mutations::label(ops);
        if label == mutations::WAIT_IDLE || label == mutations::WAIT_RETIRED {
            // A supervisor keeps nothing from one round to the next, so its position is its whole state.
            process.lock().forget_history(id, (label, self.noted.get()));
        }
        let mutation = process.lock().scenario.mutation;
        if mutations::skips_sleep(mutation, label) {
            return Ok(());
        }
        if mutations::exits_early(mutation, label, self.child.get().is_some()) {
            return Err(Refused::Gone);
        }
        let [ops] = mutations::supervisor_arrays(mutation, ops, true)
            .try_into()
            .expect("a sleep is one array");
        let pid = process.lock().pid(id);
        let until = Until::Sleep {
            set,
            ops: ops.clone(),
            timed: limit.left.get().is_some(),
            // An exit that this process has already seen does not end its sleep.
            child: self.child.get().filter(|_| !self.noted.get()),
        };
        let sleep = |machine: &mut Machine| machine.state.table.operate(pid, set, &ops, Wait::No);
        let outcome = process.wait(label, until, sleep).await;
        if outcome == Outcome::NotNow {
            limit.run_out();
        }
        step(outcome)
    }

    async fn values(self) -> SetResult<Values> {
        let set = self.set;
        let read =
            |machine: &mut Machine| SeenBySupervisor(machine.state.table.values(set).copied());
        let values = self.process.call("read the set", read).await;
        values.0.ok_or(Refused::Gone)
    }

    async fn remove(self) -> SetResult<()> {
        let set = self.set;
        let remove = |machine: &mut Machine| machine.state.table.remove(set);
        let removed = self.process.call("remove the set", remove).await;
        if mutations::unlinks_after_removal(&self.process.lock()) {
            let unlink = |machine: &mut Machine| machine.state.record = None;
            self.process.call("unlink the record", unlink).await;
        }
        removed.then_some(()).ok_or(Refused::Gone)
    }
}

/// The limit of a sleep. In the model, time passes only when a limit expires.
pub(super) struct Limit {
    left: Cell<Option<Duration>>,
    now: Cell<Duration>,
}

impl Limit {
    fn run_out(&self) {
        if let Some(left) = self.left.get() {
            self.now.set(self.now.get() + left);
        }
    }
}

struct SimSupervisorOps<'a> {
    calls: &'a SimCalls,
    limit: Limit,
}

impl<'a> SimSupervisorOps<'a> {
    fn new(calls: &'a SimCalls) -> Self {
        Self {
            calls,
            limit: Limit {
                left: Cell::new(None),
                now: Cell::new(Duration::ZERO),
            },
        }
    }

    fn process(&self) -> &Process {
        &self.calls.process
    }

    fn child_id(&self) -> ProcId {
        self.calls.child.get().expect("this supervisor is a parent")
    }

    /// Notes a child that has exited. This is not a separate step, but a part of the previous step.
    fn note_exit(&self) -> bool {
        let Some(child) = self.calls.child.get() else {
            return false;
        };
        let process = self.process();
        let mut machine = process.lock();
        if machine.has(Mutation::ParentDeaf) {
            return false;
        }
        if !machine.is_alive(child) {
            machine.reap(child);
            self.calls.noted.set(true);
        }
        let noted = self.calls.noted.get();
        machine.observe(process.id, 0, "check the child", &noted);
        noted
    }

    async fn stop_process(&self, target: ProcId) {
        let process = self.process();
        process.request_stop(target).await;
        while !process.wait_for(target).await {
            process.kill(target).await;
        }
    }

    /// Stops the leftover processes of the service.
    async fn stop_workers(&self) {
        let process = self.process();
        let id = process.id;
        loop {
            let find = |machine: &mut Machine| {
                let mine = |it: &super::process_table::Service| it.parent == Some(id);
                let mut left = machine.services();
                left.find(|(_, proc, it)| proc.alive && mine(it))
                    .map(|(worker, ..)| worker)
            };
            let Some(worker) = process.call("list the children", find).await else {
                break;
            };
            self.stop_process(worker).await;
            process.lock().reap(worker);
        }
        self.note_exit();
    }
}

impl<'a> SupervisorOps for SimSupervisorOps<'a> {
    type Calls = &'a SimCalls;

    fn limit(&self) -> &Limit {
        &self.limit
    }

    fn set_limit(&self, left: Option<Duration>) {
        self.limit.left.set(left);
    }

    fn now(&self) -> Duration {
        self.limit.now.get()
    }

    fn stop_limit(&self) -> Duration {
        Duration::ZERO
    }

    async fn stop_instance(&self, instance: &Instance) -> bool {
        let process = self.process();
        let Identity { pid, .. } = instance.identity;
        if self.calls.child.get().is_some() && instance.identity == self.child() {
            self.stop_tree().await;
            return true;
        }
        if let Some((found, target)) = process.find(pid).await {
            if found == instance.identity {
                self.stop_process(target).await;
            }
        }
        true
    }

    async fn remove_files(&self) {
        let process = self.process();
        // This process has published the service, and nothing after that.
        let anothers = self.calls.written.get() == 1;
        if anothers && process.lock().has(Mutation::LeavesTheFilesOfAFailedStart) {
            return;
        }
        process.unlink_record().await;
    }

    async fn remove_failure_note(&self) {
        self.process().unlink_failure_note().await;
    }

    fn is_subreaper(&self) -> bool {
        self.calls.child.get().is_some()
    }

    fn has_exited(&self) -> bool {
        self.note_exit()
    }
}

impl SubreaperOps for SimSupervisorOps<'_> {
    fn child(&self) -> Identity {
        self.process().lock().identity(self.child_id())
    }

    fn exit_status(&self) -> Option<Ended> {
        self.calls.noted.get().then_some(Ended::Exited(1))
    }

    fn report_exit(&self) {
        self.process().report(Report::Exited);
    }

    fn report_tree_exited(&self) {
        let process = self.process();
        process.lock().supervisor(process.id).liveness = false;
    }

    fn close_report(&self) {
        self.report_tree_exited();
    }

    async fn stop_leftovers(&self) {
        self.stop_workers().await;
    }

    async fn stop_tree(&self) {
        if !self.note_exit() {
            self.stop_process(self.child_id()).await;
            self.note_exit();
        }
        self.stop_workers().await;
    }
}

struct SimLaunchHandshake<'a> {
    calls: &'a SimCalls,
    ops: SimSupervisorOps<'a>,
}

impl<'a> LaunchHandshake for SimLaunchHandshake<'a> {
    type Subreaper = SimSupervisorOps<'a>;
    type Ops = SimSupervisorOps<'a>;

    fn port(&self) -> u16 {
        0
    }

    fn report_blocked(&self) -> bool {
        self.calls.process.report(Report::Blocked)
    }

    fn report_registered(&self) -> bool {
        self.calls.process.report(Report::Registered);
        // A process that the starter has forked may have a copy of the starter's end of the pipe.
        true
    }

    fn report_launched(&self, _: &Instance) -> bool {
        self.calls.process.report(Report::Launched)
    }

    async fn await_confirm(&self) -> bool {
        let process = &self.calls.process;
        let id = process.id;
        let confirmed = |machine: &mut Machine| {
            machine.supervisor(id).confirmed || machine.has(Mutation::NoConfirm)
        };
        process
            .wait("wait for the confirmation", Until::Confirmed(id), confirmed)
            .await
    }

    async fn fork(&self) -> Option<SimSupervisorOps<'a>> {
        let process = &self.calls.process;
        let id = process.id;
        let fork = |machine: &mut Machine| {
            let child = machine.spawn_service(None, Some(id));
            machine.supervisor(id).child = Some(child);
            if machine.has(Mutation::NoGate) {
                machine.open_gate(child);
            }
            child
        };
        let child = process.call("fork the service", fork).await;
        self.calls.child.set(Some(child));
        Some(SimSupervisorOps::new(self.calls))
    }

    fn close(&self) {}

    fn ops(&self) -> &SimSupervisorOps<'a> {
        &self.ops
    }
}
