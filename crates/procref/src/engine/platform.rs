//! What the engine needs of the machine beside a kernel object: processes, records, threads, time.
//!
//! The engine touches the machine through this trait only, so that the model can run the very same
//! engine on a machine that it made up.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use super::client::Deadline;
use super::recursion;
use crate::command::StopPolicy;
use crate::command::{ServiceCommand, StopSignal};
use crate::crash;
use crate::error::{Error, Result};
use crate::info::ServiceInfo;
use crate::kernel::{Instance, Kernel, Missing, Native, Object as _, Snapshot};
use crate::launch::{self, Launch, Running};
use crate::name::ServiceKey;
use crate::process::{self, Identity, Process};
use crate::ready::Callback;
use crate::record::failures::{self, Failures};
use crate::record::{self, Record};
use crate::runtime::process_local;
use crate::runtime::timer;
use crate::runtime::{self, BoxFuture, poll_once};

pub(crate) trait Platform: Clone + Send + Sync + 'static {
    type Kernel: Kernel;
    /// A process that can be told from a later one with its pid.
    type Process: Send + Sync + 'static;
    /// A service whose program is not executed yet, or not ready yet.
    type Running: Send + Sync + 'static;

    fn kernel(&self) -> &Self::Kernel;

    /// Whether this is still the process that the handle's seat was made in, and not a fork of it.
    fn epoch(&self) -> u64;

    fn own_pid(&self) -> u32;

    /// The process that has this pid now, if it is alive.
    fn look_up(
        &self,
        pid: u32,
    ) -> impl Future<Output = Result<Option<(Identity, Self::Process)>>> + Send;

    fn is_alive(&self, process: &Self::Process) -> impl Future<Output = bool> + Send;

    /// Asks it to end, awake or not.
    fn ask_to_end(
        &self,
        process: &Self::Process,
        signal: StopSignal,
    ) -> impl Future<Output = Result<()>> + Send;

    fn kill(&self, process: &Self::Process) -> impl Future<Output = Result<()>> + Send;

    /// Whether it is gone, at the latest after `timeout`.
    fn wait(
        &self,
        process: &Arc<Self::Process>,
        timeout: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until it is gone. May block the thread that polls it.
    fn ended(&self, process: &Self::Process) -> impl Future<Output = Result<()>> + Send;

    /// Whether this process belongs to the start that a snapshot shows, and would wait for itself.
    fn is_own_start(&self, key: &ServiceKey, snapshot: &Snapshot) -> bool;

    /// Whether this process still sees the pids, the clock and the kernel objects that the service is of.
    fn check_view(&self, _key: &ServiceKey) -> Result<()> {
        Ok(())
    }

    /// Whether a record could be written.
    fn check_record(&self, key: &ServiceKey) -> impl Future<Output = Result<()>> + Send;

    fn write_record(
        &self,
        key: &ServiceKey,
        record: &Record,
    ) -> impl Future<Output = Result<()>> + Send;

    fn read_record(&self, key: &ServiceKey) -> impl Future<Output = Option<Record>> + Send;

    fn remove_record(&self, key: &ServiceKey) -> impl Future<Output = ()> + Send;

    /// Removes the instance from the record, and keeps the service's name.
    fn keep_name(&self, key: &ServiceKey) -> impl Future<Output = ()> + Send;

    /// What starts that failed have left for those who wait.
    fn failures(&self, key: &ServiceKey) -> impl Future<Output = Option<Failures>> + Send;

    /// Leaves word of one more. Under the lock.
    fn add_failure(&self, key: &ServiceKey, reason: &str) -> impl Future<Output = ()> + Send;

    /// Removes that. Under the lock.
    fn clear_failures(&self, key: &ServiceKey) -> impl Future<Output = ()> + Send;

    /// The same without the lock, unless there is a kernel object: whoever has that will do it. Does not
    /// wait.
    fn abandon_failures(&self, key: &ServiceKey);

    /// Starts a process that stops the service when its clients are gone, and returns when it is in
    /// place.
    fn supervise(
        &self,
        key: &ServiceKey,
        object: &<Self::Kernel as Kernel>::Object,
        stop: StopPolicy,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Starts such a process, and the service as its child, up to the point where the program would be
    /// executed. The supervisor publishes the instance, not as ready, and shares the lock from then on.
    fn launch(
        &self,
        key: &ServiceKey,
        object: &<Self::Kernel as Kernel>::Object,
        launch: Launch,
    ) -> BoxFuture<Result<Self::Running>>;

    fn launched(&self, running: &Self::Running) -> (Identity, ServiceInfo);

    /// Executes the program, and waits until it is ready. What asks for that may be a callback, which
    /// is left to the caller.
    fn run(
        &self,
        running: &Arc<Self::Running>,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Option<Callback>>> + Send;

    /// What to say when a callback did not find it ready in time.
    fn late(&self, running: &Self::Running, limit: Duration) -> Error;

    /// What to say when it was ready, and did not say that it is well.
    fn unwell(&self, running: &Self::Running, sick: Sick) -> Error;

    /// Resolves when the service has ended before it was ready, with what to say about that.
    fn alarm(&self, running: &Arc<Self::Running>) -> impl Future<Output = Error> + Send;

    /// Waits until no process of a service that could not be used is left; false if there still is.
    fn gone(
        &self,
        running: Arc<Self::Running>,
        limit: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Asks an instance whether it is well, as the command's `health` says. What it was asked, and what came
    /// of it, if it is not.
    fn ask_health(
        &self,
        key: &ServiceKey,
        command: &Arc<ServiceCommand>,
        port: u16,
    ) -> impl Future<Output = Result<Option<Sick>>> + Send;

    /// Makes room in the service's log, if it has grown past its limit.
    fn rotate_log(
        &self,
        key: &ServiceKey,
        command: &ServiceCommand,
    ) -> impl Future<Output = ()> + Send;

    /// The process that other processes wait for, if any process holds the lock.
    fn blocker(
        &self,
        object: &<Self::Kernel as Kernel>::Object,
    ) -> impl Future<Output = Option<Blocker>> + Send;

    /// Continues the service's supervisor, if it is suspended.
    fn resume(&self, object: &<Self::Kernel as Kernel>::Object) -> impl Future<Output = ()> + Send;

    /// Runs a future that waits for what a supervisor does, and continues the supervisor if it is suspended, before
    /// and meanwhile.
    fn resuming<F: Future + Send>(
        &self,
        object: &<Self::Kernel as Kernel>::Object,
        future: F,
    ) -> impl Future<Output = F::Output> + Send;

    /// Lets time pass.
    fn pause(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Runs a future that may run callbacks on a thread of its own, or, where there is none to be
    /// had, to its end right here.
    fn spawn(&self, purpose: &'static str, future: BoxFuture<()>);

    /// Runs a future that blocks its thread in the kernel.
    fn spawn_thread(&self, purpose: &'static str, future: BoxFuture<()>) -> Result<()>;

    /// Blocks this thread until it is done, at most so long.
    fn wait_here(&self, done: &mpsc::Receiver<()>, patience: Duration);

    /// The future's output, or `None` if it takes longer.
    fn within<F: Future + Send>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + Send;
}

/// What an instance was asked that is not well.
pub(crate) struct Sick {
    pub(crate) probe: String,
    /// The last answer.
    pub(crate) answer: String,
    /// How long it had.
    pub(crate) limit: Duration,
}

/// A process that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocker {
    pub(crate) pid: u32,
    pub(crate) suspended: bool,
}

impl Blocker {
    /// `holder` is the process that the lock names.
    ///
    /// A starter that has died or released the lock leaves its share to the supervisor, and is the process that the lock
    /// names until the supervisor makes its next step. If that is suspended, it is what the others wait for.
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

/// How often a process that waits for a supervisor checks whether it is suspended. The kernel tells that to no
/// process but the parent, which here is none that cares.
pub(crate) const CHECK_SUSPENDED: Duration = Duration::from_secs(1);

/// Any time that a system call takes.
const LONG: Duration = Duration::from_secs(3600);

/// The machine this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host;

impl Platform for Host {
    type Kernel = Native;
    type Process = Process;
    type Running = Running;

    fn kernel(&self) -> &Native {
        &Native
    }

    fn epoch(&self) -> u64 {
        process::fork_epoch()
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    async fn look_up(&self, pid: u32) -> Result<Option<(Identity, Process)>> {
        let found = Process::look_up(pid)?;
        Ok(found.map(|process| (process.identity(), process)))
    }

    async fn is_alive(&self, process: &Process) -> bool {
        process.is_alive()
    }

    async fn ask_to_end(&self, process: &Process, signal: StopSignal) -> Result<()> {
        if process.ask_to_end(signal.number())? || Native::ask_tree(process.identity()) {
            return process.wake();
        }
        // To wait for its grace would be to wait for nothing.
        tracing::warn!(
            pid = process.pid(),
            "there is no way to ask it to end: ended at once, without its grace"
        );
        process.kill()
    }

    async fn kill(&self, process: &Process) -> Result<()> {
        process.kill()
    }

    async fn wait(&self, process: &Arc<Process>, timeout: Duration) -> Result<bool> {
        if !process.is_alive() {
            return Ok(true);
        }
        let process = Arc::clone(process);
        let purpose = "wait for the service's end";
        runtime::spawn_blocking(purpose, move || process.wait(timeout)).await?
    }

    async fn ended(&self, process: &Process) -> Result<()> {
        while !process.wait(LONG)? {}
        Ok(())
    }

    fn is_own_start(&self, key: &ServiceKey, snapshot: &Snapshot) -> bool {
        recursion::is_own_start(key, snapshot)
    }

    fn check_view(&self, key: &ServiceKey) -> Result<()> {
        process::check_view(key.namespace.view())
    }

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
        // A starter that begins between these two may lose a hint.
        if let Poll::Ready(Ok(None)) = poll_once(Native.open(key, Missing::Ignore)) {
            failures::clear(key);
        }
    }

    async fn supervise(
        &self,
        key: &ServiceKey,
        object: &<Native as Kernel>::Object,
        stop: StopPolicy,
    ) -> Result<()> {
        let (key, set) = (key.clone(), object.bare());
        let start = move || launch::start(set, &key, stop);
        runtime::spawn_blocking("start the supervisor", start).await?
    }

    fn launch(
        &self,
        key: &ServiceKey,
        object: &<Native as Kernel>::Object,
        launch: Launch,
    ) -> BoxFuture<Result<Running>> {
        let (key, set) = (key.clone(), object.bare());
        let start = move || Running::start(set, &key, &launch);
        Box::pin(async { runtime::spawn_blocking("launch the service", start).await? })
    }

    fn launched(&self, running: &Running) -> (Identity, ServiceInfo) {
        running.info()
    }

    async fn run(&self, running: &Arc<Running>, deadline: Deadline) -> Result<Option<Callback>> {
        running.run(deadline).await?;
        Ok(running.callback())
    }

    fn late(&self, running: &Running, limit: Duration) -> Error {
        running.late(limit)
    }

    fn unwell(&self, running: &Running, sick: Sick) -> Error {
        running.unwell(sick)
    }

    async fn alarm(&self, running: &Arc<Running>) -> Error {
        running.alarm().await
    }

    async fn gone(&self, running: Arc<Running>, limit: Duration) -> Result<bool> {
        running.gone(limit).await
    }

    async fn ask_health(
        &self,
        key: &ServiceKey,
        command: &Arc<ServiceCommand>,
        port: u16,
    ) -> Result<Option<Sick>> {
        let Some((probe, limit)) = command.health_probe(key, port)? else {
            return Ok(None);
        };
        let service = key.name().to_owned();
        let purpose = "ask whether the service is well";
        let asked = runtime::spawn_blocking(purpose, move || {
            let answer = probe.ask(limit, &service).err()?;
            let probe = probe.to_string();
            Some(Sick {
                probe,
                answer,
                limit,
            })
        });
        asked.await
    }

    async fn rotate_log(&self, key: &ServiceKey, command: &ServiceCommand) {
        command.rotate_log(key);
    }

    async fn blocker(&self, object: &<Native as Kernel>::Object) -> Option<Blocker> {
        let holder = object.lock_holder().await.ok()??;
        let supervisor = object.supervisor().await.ok().flatten();
        Some(Blocker::of(holder, supervisor))
    }

    async fn resume(&self, object: &<Native as Kernel>::Object) {
        let Ok(Some(pid)) = object.supervisor().await else {
            return;
        };
        if !process::is_suspended(pid) || crash::leaves_suspended() {
            return;
        }
        // In this order. The process is known by pid and start time first. If it were gone by the second check, and
        // a supervisor of another service had its pid, the signal would reach neither.
        if let Ok(Some(process)) = Process::look_up(pid) {
            if process::is_supervisor(pid) && process.wake().is_ok() {
                tracing::warn!(pid, "continued a supervisor that was suspended");
            }
        }
    }

    async fn resuming<F: Future + Send>(
        &self,
        object: &<Native as Kernel>::Object,
        future: F,
    ) -> F::Output {
        let mut future = pin!(future);
        loop {
            self.resume(object).await;
            if let Some(output) = self.within(CHECK_SUSPENDED, future.as_mut()).await {
                return output;
            }
        }
    }

    async fn pause(&self, time: Duration) {
        timer::within(
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

    fn wait_here(&self, done: &mpsc::Receiver<()>, patience: Duration) {
        // An error means that it takes longer: it goes on without us.
        let _ = done.recv_timeout(patience);
    }

    async fn within<F: Future + Send>(&self, limit: Duration, future: F) -> Option<F::Output> {
        timer::within(|| &process_local::get().timer, limit, future).await
    }
}

/// An instance as callbacks and clients are told of it.
pub(crate) async fn describe<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> ServiceInfo {
    describe_whole(platform, key, instance).await.info
}

/// What is known of an instance.
pub(crate) struct Description {
    pub(crate) info: ServiceInfo,
    pub(crate) fingerprint: Option<String>,
    pub(crate) definition: BTreeMap<String, String>,
}

/// An instance, and what its record says of it.
pub(crate) async fn describe_whole<W: Platform>(
    platform: &W,
    key: &ServiceKey,
    instance: &Instance,
) -> Description {
    let Identity { pid, start } = instance.identity;
    let info = ServiceInfo::new(pid, instance.port).identified(start);
    let alone = |info| Description {
        info,
        fingerprint: None,
        definition: BTreeMap::new(),
    };
    if !instance.has_metadata {
        return alone(info);
    }
    let record = platform.read_record(key).await;
    match record.filter(|record| record.identity() == Some(instance.identity)) {
        Some(record) => {
            let fingerprint = record.fingerprint().map(str::to_owned);
            let definition = record.definition().clone();
            Description {
                info: info.with_metadata(record.into_metadata()),
                fingerprint,
                definition,
            }
        }
        None => {
            let service = key.name();
            tracing::warn!(service, pid, "the record is gone, and what it told with it");
            alone(info)
        }
    }
}
