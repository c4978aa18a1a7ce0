//! The machine that this process runs on, as the engine's platform.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use crate::command::{ServiceCommand, StopPolicy, StopSignal};
use crate::crash;
use crate::engine::platform::{
    Blocker, CHECK_SUSPENDED, Caller, FailedCheck, Platform, Readiness, ServiceFiles,
    ServiceProcess, ServiceStart,
};
use crate::error::{Error, Result};
use crate::kernel::{Instance, Kernel, Missing, Native, Object as _, Snapshot, Step};
use crate::key::ServiceKey;
use crate::launch::{self, LaunchSpec, StartingService, own_start};
use crate::process::{self, Identity, Process};
use crate::record::failures::{self, Failures};
use crate::record::{self, Record};
use crate::runtime::deadline::Deadline;
use crate::runtime::{self, BoxFuture, poll_once, process_local, timer};

/// A timeout that a system call accepts. The wait is repeated after it.
const LONG: Duration = Duration::from_secs(3600);

/// The machine that this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host;

impl Platform for Host {
    type Kernel = Native;
    type Process = Process;
    type StartingService = StartingService;

    fn kernel(&self) -> &Native {
        &Native
    }

    fn epoch(&self) -> u64 {
        process::fork_epoch()
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    async fn find_process(&self, pid: u32) -> Result<Option<(Identity, Process)>> {
        let found = Process::find(pid)?;
        Ok(found.map(|process| (process.identity(), process)))
    }

    fn is_own_start(&self, key: &ServiceKey, snapshot: &Snapshot) -> bool {
        own_start::is_own_start(key, snapshot)
    }

    fn check_view(&self, key: &ServiceKey) -> Result<()> {
        process::check_view(key.namespace.view())
    }

    async fn supervise(
        &self,
        key: &ServiceKey,
        object: &<Native as Kernel>::Object,
        stop: StopPolicy,
        caller: Caller,
    ) -> Result<()> {
        let (key, set) = (key.clone(), object.signal_safe());
        let start = move || launch::start(set, &key, stop.spec());
        match caller {
            Caller::Thread => start(),
            Caller::Task => runtime::spawn_blocking("start the supervisor", start).await?,
        }
    }

    fn launch(
        &self,
        key: &ServiceKey,
        object: &Arc<<Native as Kernel>::Object>,
        command: Arc<ServiceCommand>,
        spec: LaunchSpec,
        caller: Caller,
    ) -> BoxFuture<Result<StartingService>> {
        let (key, set) = (key.clone(), object.signal_safe());
        let object = Arc::clone(object);
        let resume = Arc::new(move || pollster::block_on(Host.resume_supervisor(&object)));
        let start = move || StartingService::start(set, &key, &command, spec, resume);
        Box::pin(async move {
            match caller {
                Caller::Thread => start(),
                Caller::Task => runtime::spawn_blocking("launch the service", start).await?,
            }
        })
    }

    async fn check_health(
        &self,
        key: &ServiceKey,
        command: &Arc<ServiceCommand>,
        port: u16,
    ) -> Result<Option<FailedCheck>> {
        let Some((probe, limit)) = command.health_probe(key, port)? else {
            return Ok(None);
        };
        let service = key.name().to_owned();
        let purpose = "check the service's health";
        let checked = runtime::spawn_blocking(purpose, move || {
            let answer = probe.ask(limit, &service).err()?;
            let probe = probe.to_string();
            Some(FailedCheck {
                probe,
                answer,
                limit,
            })
        });
        checked.await
    }

    async fn rotate_log(&self, key: &ServiceKey, command: &ServiceCommand) {
        command.rotate_log(key);
    }

    async fn blocker(&self, object: &<Native as Kernel>::Object) -> Option<Blocker> {
        let holder = object.lock_holder().await.ok()??;
        let supervisor = object.supervisor().await.ok().flatten();
        Some(Blocker::of(holder, supervisor))
    }

    async fn resume_supervisor(&self, object: &<Native as Kernel>::Object) {
        let Ok(Some(pid)) = object.supervisor().await else {
            return;
        };
        if !process::is_suspended(pid) || crash::leaves_suspended() {
            return;
        }
        // The order matters. Identify the process by pid and start time first, and then check that it is a
        // supervisor. If the process exits between the two checks, and a supervisor of another service gets
        // its pid, no signal is sent.
        if let Ok(Some(process)) = Process::find(pid) {
            if process::is_supervisor(pid) && process.wake().is_ok() {
                tracing::warn!(pid, "continued a suspended supervisor");
            }
        }
    }

    async fn resuming_supervisor<F: Future + Send>(
        &self,
        object: &<Native as Kernel>::Object,
        future: F,
    ) -> F::Output {
        let mut future = pin!(future);
        loop {
            self.resume_supervisor(object).await;
            if let Some(output) = self.timeout(CHECK_SUSPENDED, future.as_mut()).await {
                return output;
            }
        }
    }

    fn wait_unlocked_here(
        &self,
        object: &<Native as Kernel>::Object,
        deadline: Deadline,
    ) -> Option<Step<bool>> {
        loop {
            pollster::block_on(self.resume_supervisor(object));
            let left = deadline.left();
            match object.wait_unlocked_within(left.min(CHECK_SUSPENDED)) {
                Some(Ok(false)) if left > CHECK_SUSPENDED => {}
                waited => return waited,
            }
        }
    }

    async fn sleep(&self, time: Duration) {
        timer::timeout(
            || &process_local::get().timer,
            time,
            std::future::pending::<()>(),
        )
        .await;
    }

    fn spawn(&self, purpose: &'static str, future: BoxFuture<()>) {
        runtime::spawn_or_run(purpose, future);
    }

    fn spawn_thread(&self, purpose: &'static str, future: BoxFuture<()>) -> Result<()> {
        runtime::spawn_thread(purpose, future)
    }

    fn block_until_done(&self, done: &mpsc::Receiver<()>, limit: Duration) {
        // An error means that the release takes longer. It then continues on the other thread.
        let _ = done.recv_timeout(limit);
    }

    async fn timeout<F: Future + Send>(&self, limit: Duration, future: F) -> Option<F::Output> {
        timer::timeout(|| &process_local::get().timer, limit, future).await
    }
}

impl ServiceFiles for Host {
    async fn check_record(&self, key: &ServiceKey) -> Result<()> {
        record::check(key)
    }

    async fn write_record(&self, key: &ServiceKey, record: &Record) -> Result<()> {
        record::write(key, record)
    }

    async fn read_record(&self, key: &ServiceKey) -> Option<Record> {
        record::read(key)
    }

    async fn remove_record(&self, key: &ServiceKey) {
        record::remove(key);
    }

    async fn keep_name(&self, key: &ServiceKey) {
        record::keep_name(key);
    }

    async fn failures(&self, key: &ServiceKey) -> Option<Failures> {
        failures::read(key)
    }

    async fn add_failure(&self, key: &ServiceKey, reason: &str) {
        failures::add(key, reason);
    }

    async fn clear_failures(&self, key: &ServiceKey) {
        failures::clear(key);
    }

    fn abandon_failures(&self, key: &ServiceKey) {
        // If a start begins between these two calls, its note may be removed. The note is only a hint.
        if let Poll::Ready(Ok(None)) = poll_once(Native.open(key, Missing::Ignore)) {
            failures::clear(key);
        }
    }
}

impl ServiceProcess for Process {
    async fn is_alive(&self) -> bool {
        Process::is_alive(self)
    }

    async fn request_stop(&self, signal: StopSignal) -> Result<()> {
        if Process::request_stop(self, signal.number())?
            || Native::request_tree_stop(self.identity())
        {
            return self.wake();
        }
        // The process cannot get a stop signal, so it would not exit within its grace.
        tracing::warn!(
            pid = self.pid(),
            "the service accepts no stop signal; killing it without its grace"
        );
        Process::kill(self)
    }

    async fn kill(&self) -> Result<()> {
        Process::kill(self)
    }

    async fn wait(self: &Arc<Self>, timeout: Duration) -> Result<bool> {
        if !Process::is_alive(self) {
            return Ok(true);
        }
        let process = Arc::clone(self);
        let purpose = "wait until the service exits";
        runtime::spawn_blocking(purpose, move || Process::wait(&process, timeout)).await?
    }

    async fn wait_exit(&self) -> Result<()> {
        while !Process::wait(self, LONG)? {}
        Ok(())
    }
}

impl ServiceStart for StartingService {
    fn instance(&self) -> Instance {
        StartingService::instance(self)
    }

    async fn run(self: &Arc<Self>, deadline: Deadline, caller: Caller) -> Result<Readiness> {
        let notified = match caller {
            Caller::Thread => self.run_here(deadline),
            Caller::Task => StartingService::run(self, deadline).await,
        };
        Ok(Readiness {
            notified: notified?,
            callback: self.callback(),
        })
    }

    fn not_ready_error(&self, limit: Duration) -> Error {
        self.not_ready_error(limit)
    }

    fn unhealthy_error(&self, failed: FailedCheck) -> Error {
        self.unwell(&failed.probe, failed.answer, failed.limit)
    }

    async fn early_exit(self: &Arc<Self>) -> Error {
        self.alarm().await
    }

    async fn wait_tree_exit(self: Arc<Self>, limit: Duration) -> Result<bool> {
        self.wait_tree_exit(limit).await
    }
}

impl Blocker {
    /// Returns the process that others wait for. `holder` is the process that the kernel object names as the lock's
    /// holder.
    ///
    /// If the starter has died or released the lock, only the supervisor holds the lock. But the object names
    /// the starter until the supervisor takes its next step. So if the supervisor is suspended, other
    /// processes wait for the supervisor.
    pub(crate) fn of(holder: u32, supervisor: Option<u32>) -> Self {
        let candidates = [Some(holder), supervisor];
        let suspended = candidates
            .into_iter()
            .flatten()
            .find(|&pid| process::is_suspended(pid));
        let alive = process::is_alive(holder).then_some(holder);
        Self {
            pid: suspended.or(alive).or(supervisor).unwrap_or(holder),
            suspended: suspended.is_some(),
        }
    }
}
