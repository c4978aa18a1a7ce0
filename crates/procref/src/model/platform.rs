//! The simulated machine as the engine's platform.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use super::machine::{HashedRecord, Machine};
use super::mutations;
use super::process::{Process, Sim, either};
use super::runner::Spawned;
use super::starting_service::{SimProcess, SimStartingService};
use super::yield_points::Until;
use crate::command::{ServiceCommand, StopPolicy};
use crate::crash::Point;
use crate::engine::platform::{Blocker, Caller, FailedCheck, ObjectOf, Platform, ServiceFiles};
use crate::error::{Error, Result};
use crate::kernel::Snapshot;
use crate::kernel::sim::SimKernel;
use crate::key::ServiceKey;
use crate::launch::LaunchSpec;
use crate::process::Identity;
use crate::record::Record;
use crate::record::failures::Failures;
use crate::runtime::BoxFuture;

impl Platform for Sim {
    type Kernel = SimKernel<Process>;
    type Process = SimProcess;
    type StartingService = SimStartingService;

    fn kernel(&self) -> &Self::Kernel {
        &self.kernel
    }

    /// A dead process has the epoch of a forked child, so its destructors do nothing.
    fn epoch(&self) -> u64 {
        let machine = self.lock();
        u64::from(machine.over || !machine.is_alive(self.id))
    }

    fn own_pid(&self) -> u32 {
        self.lock().pid(self.id)
    }

    fn note_join(&self, at: Point) {
        self.lock().joins_at = Some((self.id, at));
    }

    async fn find_process(&self, pid: u32) -> Result<Option<(Identity, SimProcess)>> {
        let found = self.find(pid).await;
        let named = self.lock().named.get(&self.id).copied();
        self.note_unwell(found.is_none_or(|(identity, _)| Some(identity) != named));
        Ok(found.map(|(identity, id)| (identity, SimProcess::new(self, id))))
    }

    /// No simulated program acquires a service.
    fn is_own_start(&self, _: &ServiceKey, _: &Snapshot) -> bool {
        false
    }

    async fn supervise(
        &self,
        _: &ServiceKey,
        object: &ObjectOf<Self>,
        _: StopPolicy,
        _: Caller,
    ) -> Result<()> {
        let supervisor = self.fork_supervisor(object.array().id(), None).await;
        match self.next_report(supervisor).await {
            Some(_) => Ok(()),
            None => Err(Error::from("the supervisor exited without a report")),
        }
    }

    fn launch(
        &self,
        _: &ServiceKey,
        object: &Arc<ObjectOf<Self>>,
        _: Arc<ServiceCommand>,
        spec: LaunchSpec,
        _: Caller,
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
        // In the model, callbacks check the health.
        Ok(None)
    }

    async fn rotate_log(&self, _: &ServiceKey, _: &ServiceCommand) {}

    /// Only error texts depend on it.
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

    /// The thread that drops the handle does not wait, unlike a real thread. This allows more orders, not
    /// fewer.
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
        let write = |machine: &mut Machine| {
            if let Some(record) = mutations::record(machine, record) {
                machine.state.record = Some(HashedRecord(record));
            }
        };
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
            machine.state.record = record.map(|kept| HashedRecord(kept.0.without_instance()));
        };
        self.call("keep the name in the record", clear).await;
    }

    /// Reads the note only in scenarios in which starts fail without an external event. In all other
    /// scenarios, the step would have no effect.
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
        self.unlink_failure_note().await;
    }

    fn abandon_failures(&self, _: &ServiceKey) {
        let mut machine = self.lock();
        if machine.state.table.ids().next().is_none() {
            machine.state.failures = 0;
        }
    }
}

impl Process {
    pub(super) fn note_unwell(&self, unwell: bool) {
        let id = self.id;
        self.lock().client(id).unwell |= unwell;
    }

    pub(super) async fn unlink_failure_note(&self) {
        if self.lock().scenario.budget.failures > 0 {
            let clear = |machine: &mut Machine| machine.state.failures = 0;
            self.call("unlink the note of failed starts", clear).await;
        }
    }

    pub(super) async fn unlink_record(&self) {
        if mutations::unlinks_after_removal(&self.lock()) {
            return;
        }
        let unlink = |machine: &mut Machine| machine.state.record = None;
        self.call("unlink the record", unlink).await;
    }
}
