//! The public interface of a service: build it, acquire it, wait for it, stop it, list it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::command;
use crate::crash;
use crate::engine::config::Config;
use crate::engine::platform::Caller;
use crate::engine::waiting::Waiting;
use crate::engine::{acquire, recursion};
use crate::error::Result;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Kernel, Missing, Native, Object, Snapshot, Supervised};
use crate::key::ServiceKey;
use crate::registry::{self, NativeClient};
use crate::runtime::{self, helpers};

mod builder;
mod gc;
mod handle;
mod holder;
mod services;
mod status;
mod stop;
mod survey;
mod wait;
mod wait_ready;

pub use crate::engine::config::Orphan;
pub use crate::engine::fingerprint::Mismatch;
pub use builder::SharedServiceBuilder;
pub use gc::{Collected, Removed};
pub use handle::ServiceHandle;
pub use holder::Holder;
pub use services::{Listed, Services, is_managed};
pub use status::{State, Status};

/// A background service that many processes share. The first process that acquires it starts it, the others join, and
/// the last one stops it.
///
/// A `SharedService` describes the service to one process, and is made by [`builder`](Self::builder). It runs nothing
/// before [`acquire`](Self::acquire). The [`ServiceHandle`] that `acquire` returns keeps the service running. All
/// values of one name in a process share one reference. When the last handle is dropped, the callbacks of the value
/// that it came from are used.
///
/// ```no_run
/// use procref::{ServiceInfo, SharedService};
///
/// # fn start_database(port: u16) -> procref::Result<u32> { Ok(1234) }
/// # async fn example() -> procref::Result<()> {
/// let service = SharedService::builder("my-database")
///     .on_first_acquire(|| async {
///         let port = 5432;
///         let pid = start_database(port)?;
///         Ok(ServiceInfo::new(pid, port))
///     })
///     .build()?;
///
/// let handle = service.acquire().await?;
/// println!("Service running on port {}", handle.info().port());
/// # Ok(())
/// # }
/// ```
pub struct SharedService {
    key: ServiceKey,
    config: Arc<Config>,
    client: Arc<NativeClient>,
}

impl SharedService {
    /// Returns a builder for the service of this name.
    ///
    /// Any non-empty text without NUL is a name, up to 255 bytes. [`build`](SharedServiceBuilder::build) checks it.
    pub fn builder(name: &str) -> SharedServiceBuilder {
        SharedServiceBuilder::new(name)
    }

    fn new(key: ServiceKey, config: Arc<Config>) -> Self {
        crash::arm();
        Native.prepare();
        let client = registry::client(&key);
        Self {
            key,
            config,
            client,
        }
    }

    /// Returns this process's client of the service. A forked child has its own client.
    fn client(&self) -> Arc<NativeClient> {
        if self.client.is_ours() {
            Arc::clone(&self.client)
        } else {
            registry::client(&self.key)
        }
    }

    /// Takes a reference to the service, and starts the service if it does not run.
    ///
    /// Returns when the service is alive, ready and healthy. While another process starts the service, this
    /// call sleeps in the kernel. If that process fails or dies, this call takes over. If several processes
    /// notice that a service is dead or unhealthy, one of them recovers it once.
    ///
    /// The future may be dropped at any time. Dropping it releases everything that it held. The future needs
    /// no runtime, and does not block an executor's thread.
    ///
    /// A start uses threads for calls that block. They have exited when this call returns, so the program may fork then.
    /// If such a thread does not exit within 20 ms, because the machine is busy or because the executor's waker waits
    /// for a lock of the caller, the call does not wait longer.
    ///
    /// A process that is suspended while it starts the service holds the lock. It may be suspended by Ctrl-Z, by
    /// `SIGSTOP`, or by output in the background under `stty tostop`. All other clients wait until it continues or
    /// their time is up; the process is the `holder` of [`Error::Timeout`]. A program that runs in a terminal can block
    /// `SIGTSTP`, `SIGTTIN` and `SIGTTOU` in all its threads during the call. The command line does this.
    ///
    /// # Errors
    ///
    /// - [`Error::Callback`]: a callback failed.
    /// - [`Error::InvalidInstance`]: a callback returned an instance that cannot be shared.
    /// - [`Error::Unhealthy`]: a new instance failed its health check.
    /// - [`Error::Exec`], [`Error::Port`], [`Error::Log`], [`Error::Exited`], [`Error::NotReady`],
    ///   [`Error::Notification`]: the program of a [`command`](SharedServiceBuilder::command) could not be started, was
    ///   not ready in time, or sent values that cannot be used.
    /// - [`Error::NoStart`]: the service does not run, and this client has no way to start it.
    /// - [`Error::OtherKind`]: a command started the service, and this client has callbacks, or the reverse.
    /// - [`Error::Fingerprint`]: the instance has another fingerprint.
    /// - [`Error::InvalidSetting`]: the service has no local process (pid 0), and this client has no health check.
    /// - [`Error::Recursion`]: the start of the service acquires the service itself.
    /// - [`Error::Timeout`]: a callback, or another process that starts or stops the service, took longer than its
    ///   limit.
    /// - [`Error::StartsFailed`]: starts by other clients failed while this client waited, and then this client failed.
    /// - [`Error::Unstoppable`]: an old instance could not be stopped.
    /// - [`Error::TooManyClients`]: the kernel cannot count another client.
    /// - [`Error::Supervisor`]: the supervisor could not be started.
    /// - [`Error::Kernel`], [`Error::Foreign`], [`Error::Record`], [`Error::Process`], [`Error::Proc`],
    ///   [`Error::Namespaces`], [`Error::Thread`]: the system refused an operation.
    ///
    /// # Panics
    ///
    /// Panics if a start, recovery, readiness or health callback panics, after everything that was held is released.
    ///
    /// [`Error::Callback`]: crate::Error::Callback
    /// [`Error::InvalidInstance`]: crate::Error::InvalidInstance
    /// [`Error::Unhealthy`]: crate::Error::Unhealthy
    /// [`Error::Exec`]: crate::Error::Exec
    /// [`Error::Port`]: crate::Error::Port
    /// [`Error::Log`]: crate::Error::Log
    /// [`Error::Exited`]: crate::Error::Exited
    /// [`Error::NotReady`]: crate::Error::NotReady
    /// [`Error::Notification`]: crate::Error::Notification
    /// [`Error::NoStart`]: crate::Error::NoStart
    /// [`Error::OtherKind`]: crate::Error::OtherKind
    /// [`Error::Fingerprint`]: crate::Error::Fingerprint
    /// [`Error::InvalidSetting`]: crate::Error::InvalidSetting
    /// [`Error::Recursion`]: crate::Error::Recursion
    /// [`Error::Timeout`]: crate::Error::Timeout
    /// [`Error::StartsFailed`]: crate::Error::StartsFailed
    /// [`Error::Unstoppable`]: crate::Error::Unstoppable
    /// [`Error::TooManyClients`]: crate::Error::TooManyClients
    /// [`Error::Supervisor`]: crate::Error::Supervisor
    /// [`Error::Kernel`]: crate::Error::Kernel
    /// [`Error::Foreign`]: crate::Error::Foreign
    /// [`Error::Record`]: crate::Error::Record
    /// [`Error::Process`]: crate::Error::Process
    /// [`Error::Proc`]: crate::Error::Proc
    /// [`Error::Namespaces`]: crate::Error::Namespaces
    /// [`Error::Thread`]: crate::Error::Thread
    pub async fn acquire(&self) -> Result<ServiceHandle> {
        let client = self.client();
        let waiting = Waiting::new(&client, self.config.patience());
        let acquired = self.acquire_on(&client, waiting, Caller::Task).await;
        helpers::wait_ending(helpers::BRIEFLY);
        acquired
    }

    async fn acquire_on(
        &self,
        client: &Arc<NativeClient>,
        waiting: Waiting<Host>,
        caller: Caller,
    ) -> Result<ServiceHandle> {
        acquire::acquire(client, &self.config, waiting, caller)
            .await
            .map(ServiceHandle::new)
    }

    /// Blocking version of [`acquire`](Self::acquire).
    ///
    /// Works inside an async runtime, too, but blocks the thread there. With the `tokio` feature, callbacks run on a
    /// tokio runtime that is made for the call.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let handle = service.acquire_blocking()?;
    /// println!("port {}", handle.port());
    /// handle.release_blocking()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancellation
    ///
    /// This call returns only with a result. A program that must react to something else, such as Ctrl-C in an
    /// interpreter, polls the future of [`acquire`](Self::acquire) on its own thread, and drops the future to give up.
    /// The drop does not block: a thread of procref stops what was started, and releases the rest.
    ///
    /// ```no_run
    /// use std::pin::pin;
    /// use std::sync::Arc;
    /// use std::task::{Context, Poll, Wake, Waker};
    /// use std::thread::{self, Thread};
    /// use std::time::Duration;
    ///
    /// use procref::{Result, ServiceHandle, SharedService};
    ///
    /// struct Unpark(Thread);
    ///
    /// impl Wake for Unpark {
    ///     fn wake(self: Arc<Self>) {
    ///         self.0.unpark();
    ///     }
    /// }
    ///
    /// /// Returns `None` if the caller is interrupted first.
    /// fn acquire(
    ///     service: &SharedService,
    ///     is_interrupted: impl Fn() -> bool,
    /// ) -> Result<Option<ServiceHandle>> {
    ///     let waker = Waker::from(Arc::new(Unpark(thread::current())));
    ///     let mut acquire = pin!(service.acquire());
    ///     while !is_interrupted() {
    ///         if let Poll::Ready(acquired) = acquire.as_mut().poll(&mut Context::from_waker(&waker)) {
    ///             return acquired.map(Some);
    ///         }
    ///         thread::park_timeout(Duration::from_millis(50));
    ///     }
    ///     Ok(None)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// See [`acquire`](Self::acquire).
    pub fn acquire_blocking(&self) -> Result<ServiceHandle> {
        let client = self.client();
        recursion::check_callback(&client)?;
        let supervised = self.config.supervised();
        // A join without a health check runs no callback, and neither does a wait for the start of another client. So
        // neither needs a runtime, which would cost more than the join itself.
        let needs_runtime = self.config.health.is_some();
        let join = || acquire::try_join(&client, &self.config, supervised);
        if !needs_runtime {
            if let Some(handle) = pollster::block_on(join())? {
                return Ok(ServiceHandle::new(handle));
            }
        }
        let mut waiting = Waiting::new(&client, self.config.patience());
        while !needs_runtime && wait_ready::wait_unlocked_here(&client, &mut waiting)? {
            if let Some(handle) = pollster::block_on(join())? {
                waiting.finish();
                return Ok(ServiceHandle::new(handle));
            }
        }
        let acquired = runtime::block_on(self.acquire_on(&client, waiting, Caller::Thread));
        helpers::wait_ending(helpers::PATIENTLY);
        acquired
    }

    /// Takes a reference if the service runs and is healthy. Never starts, stops or recovers the service.
    ///
    /// Returns `None` if the service does not run, or if another process is starting or stopping it: this call does not
    /// wait. After [`acquire`](Self::acquire) has returned from a start, every process finds the service with
    /// `try_join`.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// match service.try_join().await? {
    ///     Some(handle) => println!("the service runs on port {}", handle.port()),
    ///     None => println!("the service does not run"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::Fingerprint`](crate::Error::Fingerprint): the instance has another fingerprint.
    /// - [`Error::OtherKind`](crate::Error::OtherKind): a command started the service, and this client has
    ///   callbacks, or the reverse.
    /// - [`Error::InvalidSetting`](crate::Error::InvalidSetting): the service has no local process (pid 0), and this
    ///   client has no health check.
    /// - [`Error::TooManyClients`](crate::Error::TooManyClients), and those of [`count`](Self::count).
    pub async fn try_join(&self) -> Result<Option<ServiceHandle>> {
        let joined = acquire::try_join(&self.client(), &self.config, Supervised::No).await?;
        Ok(joined.map(ServiceHandle::new))
    }

    /// Returns the number of processes that hold a reference now. Returns 0 if the service does not run.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// println!("{} processes use {}", service.count()?, service.name());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::Kernel`](crate::Error::Kernel): the kernel refused to open or read the object.
    /// - [`Error::Foreign`](crate::Error::Foreign): the object under this service's key belongs to another user or
    ///   program.
    pub fn count(&self) -> Result<u32> {
        Ok(self.snapshot()?.map_or(0, |snapshot| snapshot.clients))
    }

    /// Returns the status of the service: its state, its instance, the processes that hold it. Changes and creates
    /// nothing.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let status = service.status()?;
    /// println!("{} is {}, with {} clients", service.name(), status.state(), status.clients());
    /// for holder in status.holders() {
    ///     println!("{}: {}", holder.pid(), holder.command().unwrap_or("?"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`count`](Self::count).
    pub fn status(&self) -> Result<Status> {
        status::read(&self.key)
    }

    fn snapshot(&self) -> Result<Option<Snapshot>> {
        pollster::block_on(async {
            let Some(object) = Native.open(&self.key, Missing::Ignore).await? else {
                return Ok(None);
            };
            match object.snapshot().await {
                Ok(snapshot) => Ok(Some(snapshot)),
                Err(Fault::Removed) => Ok(None),
                Err(Fault::Refused(error)) => Err(error),
            }
        })
    }

    /// Returns the service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// Returns the runtime directory as an absolute path, without symbolic links.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// println!("its files are in {}", service.runtime_dir().display());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn runtime_dir(&self) -> &Path {
        self.key.namespace.dir()
    }

    /// Returns the path of the log that [`ServiceCommand::keep_log`](crate::ServiceCommand::keep_log) keeps, even if
    /// there is no such log.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> std::io::Result<()> {
    /// print!("{}", std::fs::read_to_string(service.kept_log())?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn kept_log(&self) -> PathBuf {
        command::kept_log(&self.key)
    }

    /// Returns the name of the kernel object that counts the clients, as the system's tools print it.
    ///
    /// On Linux this is the key of a semaphore set, as
    /// [`ipcs -s`](https://man7.org/linux/man-pages/man1/ipcs.1.html) prints it. The object exists while the service
    /// runs.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// println!("ipcs -s | grep {}", service.kernel_object());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn kernel_object(&self) -> String {
        Native::object_name(&self.key)
    }
}

impl fmt::Debug for SharedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedService")
            .field("name", &self.name())
            .field("runtime_dir", &self.runtime_dir())
            .finish_non_exhaustive()
    }
}

// Threads share these types, so all their fields must be `Send` and `Sync`.
const _: () = {
    const fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<SharedService>();
    is_shared::<ServiceHandle>();
    is_shared::<ServiceInfo>();
    is_shared::<Services>();
    is_shared::<Collected>();
};
