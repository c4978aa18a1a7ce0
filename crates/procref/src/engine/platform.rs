//! What the engine needs of the machine beside a kernel object: processes, records, threads, time.
//!
//! The engine touches the machine through this trait only, so that the model can run the very same
//! engine on a machine that it made up.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::command::{ServiceCommand, StopPolicy, StopSignal};
use crate::error::{Error, Result};
use crate::kernel::Instance;
use crate::kernel::{Kernel, Snapshot};
use crate::key::ServiceKey;
use crate::launch::LaunchSpec;
use crate::process::Identity;
use crate::ready::Callback;
use crate::record::Record;
use crate::record::failures::Failures;
use crate::runtime::BoxFuture;
use crate::runtime::deadline::Deadline;

/// The kernel object of a service on a platform.
pub(crate) type ObjectOf<W> = <<W as Platform>::Kernel as Kernel>::Object;

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
        command: Arc<ServiceCommand>,
        spec: LaunchSpec,
    ) -> BoxFuture<Result<Self::Running>>;

    /// The instance that was published, not as ready.
    fn launched(&self, running: &Self::Running) -> Instance;

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

/// How often a process that waits for a supervisor checks whether it is suspended. The kernel tells that to no
/// process but the parent, which here is none that cares.
pub(crate) const CHECK_SUSPENDED: Duration = Duration::from_secs(1);
