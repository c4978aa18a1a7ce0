//! What the engine asks of a machine, answered by the made-up one.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use super::machine::{Kept, Machine};
use super::mutations::{self, Mutation};
use super::process::{Process, Sim, either};
use super::process_table::{Kind, ProcId, Said, Supervisor};
use super::runner::Spawned;
use super::yield_points::Until;
use crate::command::{ServiceCommand, StopPolicy, StopSignal};
use crate::engine::platform::{
    Blocker, FailedCheck, ObjectOf, Platform, ServiceFiles, ServiceProcess, ServiceStart,
};
use crate::error::{Error, Result};
use crate::kernel::sim::{SetId, SimKernel};
use crate::kernel::{Instance, Snapshot};
use crate::key::ServiceKey;
use crate::launch::LaunchSpec;
use crate::process::Identity;
use crate::ready::Callback;
use crate::record::Record;
use crate::record::failures::Failures;
use crate::runtime::BoxFuture;
use crate::runtime::deadline::Deadline;

/// A process as a client knows it.
pub(super) struct SimProcess {
    sim: Sim,
    id: ProcId,
}

/// A service that was forked, behind its gate or executed.
pub(super) struct SimStartingService {
    process: Process,
    supervisor: ProcId,
    service: ProcId,
    instance: Instance,
}

impl Process {
    /// The process that has this pid now, as a look at the process table tells it.
    pub(super) async fn find(&self, pid: u32) -> Option<(Identity, ProcId)> {
        let find = |machine: &mut Machine| mutations::look_up(machine, pid);
        self.call("look the process up", find).await
    }

    pub(super) async fn ask(&self, proc: ProcId) {
        let id = self.id;
        let ask = |machine: &mut Machine| machine.signal(id, proc, false);
        self.call("ask it to end", ask).await;
    }

    pub(super) async fn end_by_force(&self, proc: ProcId) {
        let id = self.id;
        let kill = |machine: &mut Machine| machine.signal(id, proc, true);
        self.call("kill it", kill).await;
    }

    /// Whether it is gone, or its grace is over.
    pub(super) async fn wait_for(&self, proc: ProcId) -> bool {
        if self.lock().has(Mutation::StopNotAwaited) {
            return true;
        }
        let until = Until::Ended { proc, timed: true };
        let gone = |machine: &mut Machine| {
            let gone = !machine.is_alive(proc);
            if !gone && !machine.scenario.stubborn {
                machine.state.left.time -= 1;
            }
            gone
        };
        self.wait("wait until it is gone", until, gone).await
    }

    async fn fork_supervisor(&self, set: SetId, spec: Option<LaunchSpec>) -> ProcId {
        let starter = self.id;
        let fork = |machine: &mut Machine| {
            let supervisor = machine.add(Kind::Supervisor(Supervisor {
                starter,
                said: std::collections::VecDeque::new(),
                presence: spec.is_some(),
                word: false,
                child: None,
                counted: false,
                suspended: false,
            }));
            machine.spawned.push(Spawned::Supervisor {
                id: supervisor,
                set,
                spec,
            });
            supervisor
        };
        self.call("fork a supervisor", fork).await
    }

    /// What it says next. `None`: it is gone.
    async fn hear(&self, supervisor: ProcId) -> Option<Said> {
        let next = |machine: &mut Machine| machine.supervisor(supervisor).said.pop_front();
        self.wait("listen to the supervisor", Until::Told(supervisor), next)
            .await
    }

    async fn launch_service(self, set: SetId, spec: LaunchSpec) -> Result<SimStartingService> {
        let failed = |what: &'static str| Err(Error::from(what));
        let supervisor = self.fork_supervisor(set, Some(spec)).await;
        let mut said = self.hear(supervisor).await;
        if said == Some(Said::Counted) {
            let give = |machine: &mut Machine| machine.supervisor(supervisor).word = true;
            self.call("give the word", give).await;
            said = self.hear(supervisor).await;
        }
        match said {
            Some(Said::Published) => {
                let machine = self.lock();
                let service = machine.told_by(supervisor).child.expect("it is published");
                Ok(SimStartingService {
                    process: self.clone(),
                    supervisor,
                    service,
                    instance: spec.launched(machine.identity(service), 0),
                })
            }
            said => {
                // With the starter's pipes the gate is gone.
                let child = self.lock().told_by(supervisor).child;
                if let Some(child) = child {
                    self.lock().close_gate(child);
                }
                if said == Some(Said::NotInPlace) {
                    failed("an older one's processes are still there")
                } else {
                    failed("the supervisor ended without a word")
                }
            }
        }
    }
}

impl Machine {
    /// A signal arrives. Whoever it reaches has to be the service.
    fn signal(&mut self, from: ProcId, to: ProcId, kill: bool) {
        if !self.is_alive(to) {
            return;
        }
        self.check_stop(from, to);
        let name = self.name(to);
        match self.service(to) {
            Some(service) => {
                service.told = true;
                service.killed |= kill;
            }
            None => self.violate(format!("G5: a signal to {name}")),
        }
    }

    /// Somebody who has this instance, which is well, by a set that is there.
    pub(super) fn holder_of(&self, service: ProcId) -> Option<ProcId> {
        let well = |it: &super::process_table::Service| !it.ill && !it.replaced && !it.told;
        if !self.as_service(service).is_some_and(well) || self.scenario.budget.time > 0 {
            return None;
        }
        let there: Vec<_> = self.state.table.ids().collect();
        self.ids().find(|&id| match &self.proc(id).kind {
            Kind::Client(client) => {
                client.holds.contains(&service) && client.on.is_some_and(|set| there.contains(&set))
            }
            _ => false,
        })
    }
}

impl Platform for Sim {
    type Kernel = SimKernel<Process>;
    type Process = SimProcess;
    type StartingService = SimStartingService;

    fn kernel(&self) -> &Self::Kernel {
        &self.kernel
    }

    /// A process that has died is as a fork of itself: it has nothing, and its destructors do nothing.
    fn epoch(&self) -> u64 {
        let machine = self.lock();
        u64::from(machine.over || !machine.is_alive(self.id))
    }

    fn own_pid(&self) -> u32 {
        self.lock().pid(self.id)
    }

    async fn find_process(&self, pid: u32) -> Result<Option<(Identity, SimProcess)>> {
        let found = self.find(pid).await;
        let named = self.lock().named.get(&self.id).copied();
        self.note_unwell(found.is_none_or(|(identity, _)| Some(identity) != named));
        let process = |id| SimProcess {
            sim: self.clone(),
            id,
        };
        Ok(found.map(|(identity, id)| (identity, process(id))))
    }

    /// No program there asks for a service.
    fn is_own_start(&self, _: &ServiceKey, _: &Snapshot) -> bool {
        false
    }

    async fn supervise(
        &self,
        _: &ServiceKey,
        object: &ObjectOf<Self>,
        _: StopPolicy,
    ) -> Result<()> {
        let supervisor = self.fork_supervisor(object.array().id(), None).await;
        match self.hear(supervisor).await {
            Some(_) => Ok(()),
            None => Err(Error::from("the supervisor ended without a word")),
        }
    }

    fn launch(
        &self,
        _: &ServiceKey,
        object: &ObjectOf<Self>,
        _: Arc<ServiceCommand>,
        spec: LaunchSpec,
    ) -> BoxFuture<Result<SimStartingService>> {
        let set = object.array().id();
        Box::pin(self.process.clone().launch_service(set, spec))
    }

    async fn check_health(
        &self,
        _: &ServiceKey,
        _: &Arc<ServiceCommand>,
        _: u16,
    ) -> Result<Option<FailedCheck>> {
        // Health is asked by callbacks here.
        Ok(None)
    }

    async fn rotate_log(&self, _: &ServiceKey, _: &ServiceCommand) {}

    /// For messages to people.
    async fn blocker(&self, _: &ObjectOf<Self>) -> Option<Blocker> {
        None
    }

    async fn resume_supervisor(&self, _: &ObjectOf<Self>) {
        if self.lock().finds_suspended() {
            let resume = |machine: &mut Machine| machine.resume();
            self.call("continue the supervisor", resume).await;
        }
    }

    async fn resuming_supervisor<F: Future + Send>(
        &self,
        object: &ObjectOf<Self>,
        future: F,
    ) -> F::Output {
        if self.lock().scenario.budget.suspensions == 0 {
            return future.await;
        }
        let mut future = pin!(future);
        loop {
            self.resume_supervisor(object).await;
            let resume = |machine: &mut Machine| machine.resume();
            let until = Until::Suspended;
            let suspended = self.process.wait("continue the supervisor", until, resume);
            if let Ok(output) = either(future.as_mut(), suspended).await {
                return output;
            }
        }
    }

    async fn sleep(&self, _: Duration) {
        self.process.wait("pause", Until::Now, |_| ()).await;
    }

    fn spawn(&self, _: &'static str, future: BoxFuture<()>) {
        let id = self.id;
        self.lock().spawned.push(Spawned::Task(id, future));
    }

    fn spawn_thread(&self, _: &'static str, future: BoxFuture<()>) -> Result<()> {
        self.spawn("wait", future);
        Ok(())
    }

    /// The dropping thread goes on instead, which no real one does: that allows for more orders, not fewer.
    fn block_until_done(&self, _: &mpsc::Receiver<()>, _: Duration) {}

    async fn timeout<F: Future + Send>(&self, _: Duration, future: F) -> Option<F::Output> {
        if self.lock().scenario.budget.time == 0 {
            return Some(future.await);
        }
        let mut future = pin!(future);
        let up = |machine: &mut Machine| machine.state.left.time -= 1;
        let mut time = pin!(self.process.wait("the time is up", Until::TimeUp, up));
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = future.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            time.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}

impl ServiceFiles for Sim {
    async fn check_record(&self, _: &ServiceKey) -> Result<()> {
        Ok(())
    }

    async fn write_record(&self, _: &ServiceKey, record: &Record) -> Result<()> {
        let record = record.clone();
        let write = |machine: &mut Machine| machine.state.record = Some(Kept(record));
        self.call("write the record", write).await;
        Ok(())
    }

    async fn read_record(&self, _: &ServiceKey) -> Option<Record> {
        let read = |machine: &mut Machine| machine.state.record.clone();
        let kept = self.call("read the record", read).await;
        kept.map(|kept| kept.0)
    }

    async fn remove_record(&self, _: &ServiceKey) {
        self.unlink_record().await;
    }

    async fn keep_name(&self, _: &ServiceKey) {
        let clear = |machine: &mut Machine| {
            let record = machine.state.record.take();
            machine.state.record = record.map(|kept| Kept(kept.0.without_instance()));
        };
        self.call("keep the name in the record", clear).await;
    }

    /// Only in scenarios in which starts fail by themselves. In all others it would be a step more, and of
    /// no consequence.
    async fn failures(&self, _: &ServiceKey) -> Option<Failures> {
        if self.lock().scenario.budget.failures == 0 {
            return None;
        }
        let read = |machine: &mut Machine| machine.state.failures;
        let count = self.call("read the note of failed starts", read).await;
        (count > 0).then(|| Failures::made_up(count))
    }

    async fn add_failure(&self, _: &ServiceKey, _: &str) {
        if self.lock().scenario.budget.failures > 0 {
            let add = |machine: &mut Machine| machine.state.failures += 1;
            self.call("write the note of failed starts", add).await;
        }
    }

    async fn clear_failures(&self, _: &ServiceKey) {
        if self.lock().scenario.budget.failures > 0 {
            let clear = |machine: &mut Machine| machine.state.failures = 0;
            self.call("unlink the note of failed starts", clear).await;
        }
    }

    fn abandon_failures(&self, _: &ServiceKey) {
        let mut machine = self.lock();
        if machine.state.table.ids().next().is_none() {
            machine.state.failures = 0;
        }
    }
}

impl ServiceProcess for SimProcess {
    async fn is_alive(&self) -> bool {
        let ask = |machine: &mut Machine| machine.is_alive(self.id);
        let alive = self.sim.call("ask whether it is alive", ask).await;
        self.sim.note_unwell(!alive);
        alive
    }

    async fn request_stop(&self, _: StopSignal) -> Result<()> {
        self.sim.ask(self.id).await;
        Ok(())
    }

    async fn kill(&self) -> Result<()> {
        self.sim.end_by_force(self.id).await;
        Ok(())
    }

    async fn wait(self: &Arc<Self>, _: Duration) -> Result<bool> {
        Ok(self.sim.wait_for(self.id).await)
    }

    async fn wait_exit(&self) -> Result<()> {
        let until = Until::Ended {
            proc: self.id,
            timed: false,
        };
        self.sim.wait("wait for its end", until, |_| ()).await;
        Ok(())
    }
}

impl ServiceStart for SimStartingService {
    fn instance(&self) -> Instance {
        self.instance
    }

    async fn run(self: &Arc<Self>, _: Deadline) -> Result<Option<Callback>> {
        let (service, supervisor) = (self.service, self.supervisor);
        let open = |machine: &mut Machine| machine.open_gate(service);
        self.process.call("open the gate", open).await;
        let until = Until::ReadyOrEnded {
            service,
            supervisor,
        };
        let ready = |machine: &mut Machine| {
            let ready = machine.as_service(service).is_some_and(|it| it.ready);
            ready && machine.is_alive(service)
        };
        if self
            .process
            .wait("wait until it is ready", until, ready)
            .await
        {
            Ok(None)
        } else {
            Err(Error::from("it ended before it was ready"))
        }
    }

    fn not_ready_error(&self, _: Duration) -> Error {
        Error::from("it is late")
    }

    fn unhealthy_error(&self, failed: FailedCheck) -> Error {
        Error::from(failed.answer)
    }

    async fn early_exit(self: &Arc<Self>) -> Error {
        let until = Until::Alarm(self.supervisor);
        self.process
            .wait("listen for the alarm", until, |_| ())
            .await;
        Error::from("it ended before it was ready")
    }

    async fn wait_tree_exit(self: Arc<Self>, _: Duration) -> Result<bool> {
        let service = self.service;
        let close = |machine: &mut Machine| machine.close_gate(service);
        self.process.call("close the gate", close).await;
        let until = Until::AllGone(self.supervisor);
        self.process
            .wait("wait until all are gone", until, |_| ())
            .await;
        Ok(true)
    }
}

impl Process {
    pub(super) fn note_unwell(&self, unwell: bool) {
        let id = self.id;
        self.lock().client(id).unwell |= unwell;
    }

    pub(super) async fn unlink_record(&self) {
        if mutations::unlinks_late(&self.lock()) {
            return;
        }
        let unlink = |machine: &mut Machine| machine.state.record = None;
        self.call("unlink the record", unlink).await;
    }
}

impl Machine {
    fn close_gate(&mut self, id: ProcId) {
        if let Some(service) = self.service(id).filter(|it| it.gate.is_some()) {
            service.told = true;
        }
    }

    pub(super) fn open_gate(&mut self, id: ProcId) {
        if !self.is_alive(id) {
            return;
        }
        if let Some(service) = self.service(id).filter(|it| it.gate.is_some() && !it.told) {
            service.gate = None;
            service.executing = true;
        }
    }
}
