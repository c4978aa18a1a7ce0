//! The processes of a service on the simulated machine, as the engine uses them: signals, a launch, a gate.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::machine::Machine;
use super::mutations::{self, Mutation};
use super::process::{Process, Sim};
use super::process_table::{Kind, ProcId, Report, Service, Supervisor};
use super::runner::Spawned;
use super::yield_points::Until;
use crate::command::StopSignal;
use crate::engine::platform::{Caller, FailedCheck, Readiness, ServiceProcess, ServiceStart};
use crate::error::{Error, Result};
use crate::kernel::Instance;
use crate::kernel::sim::SetId;
use crate::launch::LaunchSpec;
use crate::process::Identity;
use crate::ready::Notified;
use crate::runtime::deadline::Deadline;

/// A process that a client has found.
pub(super) struct SimProcess {
    sim: Sim,
    id: ProcId,
}

/// A service that was forked and waits at its gate, or whose program was executed.
pub(super) struct SimStartingService {
    process: Process,
    supervisor: ProcId,
    service: ProcId,
    instance: Instance,
}

impl SimProcess {
    pub(super) fn new(sim: &Sim, id: ProcId) -> Self {
        Self {
            sim: sim.clone(),
            id,
        }
    }
}

impl Process {
    /// Returns the process that has this pid now.
    pub(super) async fn find(&self, pid: u32) -> Option<(Identity, ProcId)> {
        let find = |machine: &mut Machine| mutations::find_process(machine, pid);
        self.call("look the process up", find).await
    }

    pub(super) async fn request_stop(&self, proc: ProcId) {
        let id = self.id;
        let request = |machine: &mut Machine| machine.signal(id, proc, false);
        self.call("ask it to end", request).await;
    }

    pub(super) async fn kill(&self, proc: ProcId) {
        let id = self.id;
        let kill = |machine: &mut Machine| machine.signal(id, proc, true);
        self.call("kill it", kill).await;
    }

    /// Waits until the process has exited or its grace has expired. Returns `true` if the process has exited.
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

    pub(super) async fn fork_supervisor(&self, set: SetId, spec: Option<LaunchSpec>) -> ProcId {
        let starter = self.id;
        let fork = |machine: &mut Machine| {
            let supervisor = machine.add(Kind::Supervisor(Supervisor {
                starter,
                reports: VecDeque::new(),
                liveness: spec.is_some(),
                confirmed: false,
                child: None,
                registered: false,
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

    /// Returns the supervisor's next report. Returns `None` if it has exited.
    pub(super) async fn next_report(&self, supervisor: ProcId) -> Option<Report> {
        let next = |machine: &mut Machine| machine.supervisor(supervisor).reports.pop_front();
        self.wait("listen to the supervisor", Until::Told(supervisor), next)
            .await
    }

    pub(super) async fn launch_service(
        self,
        set: SetId,
        spec: LaunchSpec,
    ) -> Result<SimStartingService> {
        let failed = |what: &'static str| Err(Error::from(what));
        let supervisor = self.fork_supervisor(set, Some(spec)).await;
        let mut report = self.next_report(supervisor).await;
        if report == Some(Report::Registered) {
            let confirm = |machine: &mut Machine| machine.supervisor(supervisor).confirmed = true;
            self.call("confirm", confirm).await;
            report = self.next_report(supervisor).await;
        }
        match report {
            Some(Report::Launched) => {
                let machine = self.lock();
                let service = machine
                    .reports_of(supervisor)
                    .child
                    .expect("a published service has a process");
                Ok(SimStartingService {
                    process: self.clone(),
                    supervisor,
                    service,
                    instance: spec.launched(machine.identity(service), 0),
                })
            }
            report => {
                // The starter closes its pipes, including the gate.
                let child = self.lock().reports_of(supervisor).child;
                if let Some(child) = child {
                    self.lock().close_gate(child);
                }
                if report == Some(Report::Blocked) {
                    failed("the processes of an older instance have not exited")
                } else {
                    failed("the supervisor exited without a report")
                }
            }
        }
    }
}

impl Machine {
    /// Delivers a signal, and checks that its receiver is the service.
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

    /// Returns a client that holds this healthy instance, by an object that exists.
    pub(super) fn holder_of(&self, service: ProcId) -> Option<ProcId> {
        let healthy = |it: &Service| !it.ill && !it.replaced && !it.told;
        if !self.service_of(service).is_some_and(healthy) || self.scenario.budget.time > 0 {
            return None;
        }
        let sets: Vec<_> = self.state.table.ids().collect();
        self.ids().find(|&id| match &self.proc(id).kind {
            Kind::Client(client) => {
                client.holds.contains(&service) && client.on.is_some_and(|set| sets.contains(&set))
            }
            _ => false,
        })
    }
}

impl ServiceProcess for SimProcess {
    async fn is_alive(&self) -> bool {
        let ask = |machine: &mut Machine| machine.is_alive(self.id);
        let alive = self.sim.call("check whether it is alive", ask).await;
        self.sim.note_unwell(!alive);
        alive
    }

    async fn request_stop(&self, _: StopSignal) -> Result<()> {
        self.sim.request_stop(self.id).await;
        Ok(())
    }

    async fn kill(&self) -> Result<()> {
        self.sim.kill(self.id).await;
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

    async fn run(self: &Arc<Self>, _: Deadline, _: Caller) -> Result<Readiness> {
        let (service, supervisor) = (self.service, self.supervisor);
        let open = |machine: &mut Machine| machine.open_gate(service);
        self.process.call("open the gate", open).await;
        let until = Until::ReadyOrEnded {
            service,
            supervisor,
        };
        let ready = |machine: &mut Machine| {
            let ready = machine.service_of(service).is_some_and(|it| it.ready);
            ready && machine.is_alive(service)
        };
        if self
            .process
            .wait("wait until it is ready", until, ready)
            .await
        {
            Ok(Readiness {
                notified: self.process.lock().notified(service),
                ..Readiness::default()
            })
        } else {
            Err(Error::from("the service exited before it was ready"))
        }
    }

    fn not_ready_error(&self, _: Duration) -> Error {
        Error::from("the service was not ready in time")
    }

    fn unhealthy_error(&self, failed: FailedCheck) -> Error {
        Error::from(failed.answer)
    }

    async fn early_exit(self: &Arc<Self>) -> Error {
        let until = Until::Alarm(self.supervisor);
        self.process
            .wait("listen for the alarm", until, |_| ())
            .await;
        Error::from("the service exited before it was ready")
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

impl Machine {
    /// Returns the values that a service sends when it is ready.
    pub(super) fn notified(&self, service: ProcId) -> Notified {
        if !self.scenario.notifies {
            return Notified::default();
        }
        let number = service.0;
        Notified {
            port: u16::try_from(number + 1).ok(),
            metadata: BTreeMap::from([("number".to_owned(), number.to_string())]),
        }
    }

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
