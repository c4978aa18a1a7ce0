//! The traits by which the engine uses the machine: processes, files, threads, time.
//!
//! The engine uses the machine only through these traits and the kernel's ([`Kernel`]). So the model can run the same
//! engine on a simulated machine. The real machine is `host.rs`.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::command::{ServiceCommand, StopPolicy, StopSignal};
use crate::crash::Point;
use crate::error::{Error, Result};
use crate::kernel::{Instance, Kernel, Snapshot, Step};
use crate::key::ServiceKey;
pub(crate) use crate::launch::CHECK_SUSPENDED;
use crate::launch::LaunchSpec;
use crate::process::Identity;
use crate::ready::{Callback, Notified};
use crate::record::Record;
use crate::record::failures::Failures;
use crate::runtime::BoxFuture;
use crate::runtime::deadline::Deadline;

/// The kernel object of a service on a platform.
pub(crate) type ObjectOf<W> = <<W as Platform>::Kernel as Kernel>::Object;

/// The code that waits for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A task of an executor. Blocking calls run on threads of procref.
    Task,
    /// A thread that does nothing else. Blocking calls run on this thread, because a second thread, and the wakes between
    /// the two, would take a considerable part of the time of a start.
    Thread,
}

/// A machine on which the engine runs.
pub(crate) trait Platform: ServiceFiles + Clone + Send + Sync + 'static {
    type Kernel: Kernel;
    type Process: ServiceProcess;
    type StartingService: ServiceStart;

    fn kernel(&self) -> &Self::Kernel;

    /// Returns a number that differs between a process and its forked children.
    fn epoch(&self) -> u64;

    fn own_pid(&self) -> u32;

    /// Notes which join the engine makes next. Only the model uses this: the same join at another place of the engine has
    /// other steps after it, so a client at one place is in another state than a client at the other.
    fn note_join(&self, _: Point) {}

    /// Returns the process that has this pid now. Returns `None` if no process has it, or the process is dead.
    fn find_process(
        &self,
        pid: u32,
    ) -> impl Future<Output = Result<Option<(Identity, Self::Process)>>> + Send;

    /// Returns `true` if this process belongs to the start that a snapshot shows, and would wait for itself.
    fn is_own_start(&self, key: &ServiceKey, snapshot: &Snapshot) -> bool;

    /// Returns an error if this process has moved to other pid, time or IPC namespaces than those of the
    /// service.
    fn check_view(&self, _key: &ServiceKey) -> Result<()> {
        Ok(())
    }

    /// Starts a supervisor: a process that stops the service after its last client. Returns when the supervisor
    /// is registered in the object.
    fn supervise(
        &self,
        key: &ServiceKey,
        object: &ObjectOf<Self>,
        stop: StopPolicy,
        caller: Caller,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Starts a supervisor, and the service as its child, up to the point at which the program would be
    /// executed. The supervisor publishes the instance as not ready, and shares the lock after that.
    fn launch(
        &self,
        key: &ServiceKey,
        object: &Arc<ObjectOf<Self>>,
        command: Arc<ServiceCommand>,
        spec: LaunchSpec,
        caller: Caller,
    ) -> BoxFuture<Result<Self::StartingService>>;

    /// Runs the health check of a command. Returns `None` if the check passes, or the command has none.
    fn check_health(
        &self,
        key: &ServiceKey,
        command: &Arc<ServiceCommand>,
        port: u16,
    ) -> impl Future<Output = Result<Option<FailedCheck>>> + Send;

    /// Shortens the service's log if it has grown past its limit.
    fn rotate_log(
        &self,
        key: &ServiceKey,
        command: &ServiceCommand,
    ) -> impl Future<Output = ()> + Send;

    /// Returns the process that other processes wait for. Returns `None` if no process holds the lock.
    fn blocker(&self, object: &ObjectOf<Self>) -> impl Future<Output = Option<Blocker>> + Send;

    /// Continues the service's supervisor, if it is suspended.
    fn resume_supervisor(&self, object: &ObjectOf<Self>) -> impl Future<Output = ()> + Send;

    /// Runs a future that waits for a supervisor. Continues the supervisor if it is suspended, at first and while the
    /// future runs.
    fn resuming_supervisor<F: Future + Send>(
        &self,
        object: &ObjectOf<Self>,
        future: F,
    ) -> impl Future<Output = F::Output> + Send;

    /// Waits on the caller's thread until no process holds the lock, and continues a suspended supervisor. Returns
    /// `false` if that takes until the deadline, and `None` if the platform has no such wait.
    fn wait_unlocked_here(&self, _: &ObjectOf<Self>, _: Deadline) -> Option<Step<bool>> {
        None
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Returns the future's output. Returns `None` if the future takes longer than the limit.
    fn timeout<F: Future + Send>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> + Send;

    /// Runs a future that may run callbacks on its own thread. If no thread can be started, this runs the future to
    /// its end on the caller's thread.
    fn spawn(&self, purpose: &'static str, future: BoxFuture<()>);

    /// Spawns a thread for a future that blocks its thread in the kernel.
    fn spawn_thread(&self, purpose: &'static str, future: BoxFuture<()>) -> Result<()>;

    /// Blocks this thread until a message arrives, at most for `limit`.
    fn block_until_done(&self, done: &mpsc::Receiver<()>, limit: Duration);
}

/// The files of a service in the runtime directory: its record, and the note of failed starts.
pub(crate) trait ServiceFiles {
    /// Returns an error if a record could not be written.
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

    /// Reads the note that failed starts leave for the clients that wait.
    fn failures(&self, key: &ServiceKey) -> impl Future<Output = Option<Failures>> + Send;

    /// Adds a failed start to the note. Call this with the lock held.
    fn add_failure(&self, key: &ServiceKey, reason: &str) -> impl Future<Output = ()> + Send;

    /// Removes the note. Call this with the lock held.
    fn clear_failures(&self, key: &ServiceKey) -> impl Future<Output = ()> + Send;

    /// Removes the note without the lock, if the service has no kernel object. If there is an object, the
    /// process that removes the object also removes the note. Does not wait.
    fn abandon_failures(&self, key: &ServiceKey);
}

/// A process, identified by more than its pid. A later process with the same pid has another identity.
pub(crate) trait ServiceProcess: Send + Sync + 'static {
    fn is_alive(&self) -> impl Future<Output = bool> + Send;

    /// Sends the stop signal, and continues the process if it is suspended.
    fn request_stop(&self, signal: StopSignal) -> impl Future<Output = Result<()>> + Send;

    fn kill(&self) -> impl Future<Output = Result<()>> + Send;

    /// Waits until the process exits. Returns `false` if that takes longer than the timeout.
    fn wait(self: &Arc<Self>, timeout: Duration) -> impl Future<Output = Result<bool>> + Send;

    /// Waits until the process exits. This may block the thread that polls it.
    fn wait_exit(&self) -> impl Future<Output = Result<()>> + Send;
}

/// A service that was launched, and is not executed or not ready yet.
pub(crate) trait ServiceStart: Send + Sync + 'static {
    /// Returns the instance that was published as not ready.
    fn instance(&self) -> Instance;

    /// Executes the program and waits until it is ready.
    fn run(
        self: &Arc<Self>,
        deadline: Deadline,
        caller: Caller,
    ) -> impl Future<Output = Result<Readiness>> + Send;

    /// Returns the error of a service whose callback did not find it ready in time.
    fn not_ready_error(&self, limit: Duration) -> Error;

    /// Returns the error of a service that was ready, but failed its health check.
    fn unhealthy_error(&self, failed: FailedCheck) -> Error;

    /// Waits until the service exits before it is ready, and returns the error that describes this.
    fn early_exit(self: &Arc<Self>) -> impl Future<Output = Error> + Send;

    /// Waits until all processes of an unusable service have exited. Returns `false` if that takes longer
    /// than the limit.
    fn wait_tree_exit(
        self: Arc<Self>,
        limit: Duration,
    ) -> impl Future<Output = Result<bool>> + Send;
}

/// The result of waiting until a program is ready.
#[derive(Default)]
pub(crate) struct Readiness {
    /// A callback that checks the readiness. The caller runs it.
    pub(crate) callback: Option<Callback>,
    /// The values that the service sent.
    pub(crate) notified: Notified,
}

/// A health check of a command that failed.
pub(crate) struct FailedCheck {
    /// The probe, as text.
    pub(crate) probe: String,
    /// The last answer.
    pub(crate) answer: String,
    /// The time that the probe had.
    pub(crate) limit: Duration,
}

/// A process that other processes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocker {
    pub(crate) pid: u32,
    pub(crate) suspended: bool,
}

/// Returns the process of this identity. Returns `None` if it is dead, even if another process has its pid
/// now.
pub(crate) async fn find_identity<W: Platform>(
    platform: &W,
    identity: Identity,
) -> Result<Option<W::Process>> {
    let found = platform.find_process(identity.pid).await?;
    Ok(found
        .filter(|(found, _)| *found == identity)
        .map(|(_, process)| process))
}
