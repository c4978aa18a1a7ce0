//! What a user sees of a service, and the engine behind it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::crash;
use crate::engine::{acquire, follow, pin, recursion, registry, stop_service};
use crate::error::Result;
use crate::info::ServiceInfo;
use crate::kernel::{Fault, Kernel, Missing, Native, Object, Snapshot, Supervised};
use crate::key::ServiceKey;
use crate::runtime;

mod builder;
mod gc;
mod handle;
mod services;
mod status;
mod survey;
mod wait_ready;

pub use crate::engine::config::Orphan;
pub use crate::engine::fingerprint::Mismatch;
pub use builder::SharedServiceBuilder;
pub use gc::{Collected, Removed};
pub use handle::ServiceHandle;
pub use services::{Listed, Services, is_managed};
pub use status::{Holder, State, Status};

use crate::engine::config::Config;
use crate::engine::platform::Platform as _;
use crate::engine::registry::NativeClient;
use crate::engine::stop_service::Held;
use crate::engine::waiting::Waiting;
use crate::host::Host;

/// A background service that many processes share: the first to acquire it starts it, the others
/// join, the last one stops it.
///
/// This is one process's idea of the service, made by [`builder`](Self::builder). Nothing runs
/// before [`acquire`](Self::acquire); what keeps the service alive is the [`ServiceHandle`] that
/// returns. Several values of one name in a process share one reference; the last handle to be
/// dropped uses the callbacks of the value it came from.
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
    /// Begins to describe the service of this name: any non-empty text without NUL, up to 255 bytes.
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

    /// This process's seat: in a forked child, a new one.
    fn client(&self) -> Arc<NativeClient> {
        if self.client.is_ours() {
            Arc::clone(&self.client)
        } else {
            registry::client(&self.key)
        }
    }

    /// Takes a reference to the service, and starts it if it does not run.
    ///
    /// Returns when the service is alive, ready and healthy. While another process starts it, this
    /// sleeps in the kernel until that is done, and takes over if it fails or dies. Dead and
    /// unhealthy services are recovered, by one process however many notice.
    ///
    /// The future may be dropped at any point: whatever it held is given back. It needs no runtime,
    /// and blocks no executor's thread.
    ///
    /// A process that is suspended while it starts the service (Ctrl-Z, `SIGSTOP`, output in the background under
    /// `stty tostop`) holds the lock, and all other clients wait until it is continued, or their time is up
    /// ([`Error::Timeout`] names it). A program that is run at a terminal can block `SIGTSTP`, `SIGTTIN` and `SIGTTOU`
    /// in all its threads for as long as the call takes. The command line does that.
    ///
    /// # Errors
    ///
    /// The error of a callback ([`Error::Callback`]), what it returned cannot be shared
    /// ([`Error::InvalidInstance`], [`Error::Unhealthy`]), there is nothing to join and no
    /// callback to start it with ([`Error::NoStart`]), it is not what this client wants
    /// ([`Error::Fingerprint`]), its own start asks for it ([`Error::Recursion`]), something took longer than its limit
    /// ([`Error::Timeout`]), an old instance cannot be stopped ([`Error::Unstoppable`]), or the
    /// machine refuses ([`Error::Kernel`], [`Error::Foreign`], [`Error::TooManyClients`],
    /// [`Error::Record`], [`Error::RuntimeDir`]).
    ///
    /// # Panics
    ///
    /// Where a start, recover or health callback panics, after giving back what was held.
    ///
    /// [`Error::Callback`]: crate::Error::Callback
    /// [`Error::InvalidInstance`]: crate::Error::InvalidInstance
    /// [`Error::Unhealthy`]: crate::Error::Unhealthy
    /// [`Error::NoStart`]: crate::Error::NoStart
    /// [`Error::Fingerprint`]: crate::Error::Fingerprint
    /// [`Error::Recursion`]: crate::Error::Recursion
    /// [`Error::Timeout`]: crate::Error::Timeout
    /// [`Error::Unstoppable`]: crate::Error::Unstoppable
    /// [`Error::Kernel`]: crate::Error::Kernel
    /// [`Error::Foreign`]: crate::Error::Foreign
    /// [`Error::TooManyClients`]: crate::Error::TooManyClients
    /// [`Error::Record`]: crate::Error::Record
    /// [`Error::RuntimeDir`]: crate::Error::RuntimeDir
    pub async fn acquire(&self) -> Result<ServiceHandle> {
        let client = self.client();
        let waiting = Waiting::new(&client, self.config.patience());
        self.acquire_on(&client, waiting).await
    }

    async fn acquire_on(
        &self,
        client: &Arc<NativeClient>,
        waiting: Waiting<Host>,
    ) -> Result<ServiceHandle> {
        acquire::acquire(client, &self.config, waiting)
            .await
            .map(ServiceHandle::new)
    }

    /// [`acquire`](Self::acquire) for code that is not async. Blocks the thread; also inside an async
    /// runtime, where it had better not be used.
    ///
    /// With the `tokio` feature callbacks run on a tokio runtime made for the call.
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
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_blocking(&self) -> Result<ServiceHandle> {
        let client = self.client();
        recursion::check_callback(&client)?;
        let mut waiting = Waiting::new(&client, self.config.patience());
        if self.config.health.is_none() {
            // Joining calls nobody back, so it needs no runtime, and a runtime costs more than it. Nor
            // does waiting for another's start.
            let supervised = self.config.supervised();
            loop {
                if let Some(handle) = pollster::block_on(self.join_now(supervised))? {
                    waiting.finish();
                    return Ok(handle);
                }
                if !wait_ready::wait_unlocked_here(&client, &mut waiting)? {
                    break;
                }
            }
        }
        runtime::block_on(self.acquire_on(&client, waiting))
    }

    /// Takes a reference if the service runs and is healthy. Never starts, stops or recovers it,
    /// and does not wait for others who do: `None` then. When [`acquire`](Self::acquire) has returned from a
    /// start, that is over for everybody: whom the starter tells of the service then, finds it.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// match service.try_join().await? {
    ///     Some(handle) => println!("somebody has started it, on port {}", handle.port()),
    ///     None => println!("it is not worth starting for this alone"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The machine refuses, or the service is not what this client wants
    /// ([`Error::Fingerprint`](crate::Error::Fingerprint)), as in [`acquire`](Self::acquire).
    pub async fn try_join(&self) -> Result<Option<ServiceHandle>> {
        self.join_now(Supervised::No).await
    }

    async fn join_now(&self, supervised: Supervised) -> Result<Option<ServiceHandle>> {
        let lease = acquire::try_join(&self.client(), &self.config, supervised).await?;
        Ok(lease.map(ServiceHandle::new))
    }

    /// Lets the service end with its last client again, after [`pin`](ServiceHandle::pin). True if it was
    /// pinned.
    ///
    /// Where nobody holds it, this process does what a last client does: it calls `on_last_release`,
    /// waits until the service is gone, and cleans up; what [lingers](SharedServiceBuilder::linger) is
    /// left to its supervisor. Waits for whoever is just starting or stopping it.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// if service.unpin().await? {
    ///     println!("it ends with its last client now");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`release`](ServiceHandle::release): the pin is gone then. [`Error::Timeout`] if others took
    /// longer than the wait timeout, or the machine refuses: the pin is still there.
    ///
    /// [`Error::Timeout`]: crate::Error::Timeout
    pub async fn unpin(&self) -> Result<bool> {
        pin::unpin(&self.client(), &self.config).await
    }

    /// [`unpin`](Self::unpin) for code that is not async. Blocks the thread.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// service.acquire_blocking()?.pin()?;
    /// assert!(service.unpin_blocking()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`unpin`](Self::unpin).
    pub fn unpin_blocking(&self) -> Result<bool> {
        runtime::block_on(self.unpin())
    }

    /// Stops the service if nobody holds it: what is pinned, what is kept warm, what was left by clients
    /// that died. True if there was something to stop.
    ///
    /// It is asked to end as its starter said, killed after the stop timeout, and gone with everything it
    /// had left when this returns. A pin is taken away. The service is as after its last client then: the
    /// next [`acquire`](Self::acquire) starts it. Whoever is just starting it holds it already; whoever is
    /// just stopping it is waited for.
    ///
    /// A future that is dropped is finished by a thread in the background, where it has begun to stop
    /// something.
    ///
    /// ```no_run
    /// use procref::Error;
    ///
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// match service.stop().await {
    ///     Err(Error::Held { holders, .. }) => println!("still used by {holders:?}"),
    ///     stopped => println!("it was {}", if stopped? { "running" } else { "not running" }),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Held`]: somebody holds it, a handle of this process included. A stop or a start by another
    /// process is waited for first, if the start has no other clients. [`Error::Timeout`]: others took longer
    /// than the wait timeout. [`Error::Suspended`]: the process that is waited for is suspended. Nothing has
    /// changed then. [`Error::Callback`]: `on_last_release`
    /// failed, and procref stopped it itself. [`Error::Unstoppable`], or the machine refuses.
    ///
    /// [`Error::Held`]: crate::Error::Held
    /// [`Error::Timeout`]: crate::Error::Timeout
    /// [`Error::Suspended`]: crate::Error::Suspended
    /// [`Error::Callback`]: crate::Error::Callback
    /// [`Error::Unstoppable`]: crate::Error::Unstoppable
    pub async fn stop(&self) -> Result<bool> {
        stop_service::stop(&self.client(), &self.config, Held::Refuse).await
    }

    /// [`stop`](Self::stop) for code that is not async. Blocks the thread.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// println!("{}", if service.stop_blocking()? { "stopped" } else { "did not run" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn stop_blocking(&self) -> Result<bool> {
        runtime::block_on(self.stop())
    }

    /// [`stop`](Self::stop) also while clients hold it.
    ///
    /// They keep their references, to a service that does not run: their
    /// [`wait_dead`](ServiceHandle::wait_dead) returns, [`current`](ServiceHandle::current) is `None`, and
    /// whoever acquires next, one of them or not, starts it again.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// println!("{} clients lose it", service.count()?);
    /// service.force_stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop), without [`Error::Held`](crate::Error::Held).
    pub async fn force_stop(&self) -> Result<bool> {
        stop_service::stop(&self.client(), &self.config, Held::Override).await
    }

    /// [`force_stop`](Self::force_stop) for code that is not async. Blocks the thread.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// service.force_stop_blocking()?; // whoever uses it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`force_stop`](Self::force_stop).
    pub fn force_stop_blocking(&self) -> Result<bool> {
        runtime::block_on(self.force_stop())
    }

    /// Waits until the service can be joined, whoever starts it, and tells what it is. At once if that is
    /// so already.
    ///
    /// Nothing polls and no executor's thread is blocked. Starts nothing, and creates no reference: by the
    /// time this returns the service may have ended again. Does not ask the health check. A fingerprint
    /// that is not [`Separate`](Mismatch::Separate) makes no difference.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let info = service.wait_ready().await?;
    /// println!("somebody has started it, on port {}", info.port());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count); the runtime directory is gone or cannot be watched
    /// ([`Error::RuntimeDir`](crate::Error::RuntimeDir)); or there is no thread to be had.
    pub async fn wait_ready(&self) -> Result<ServiceInfo> {
        wait_ready::wait_ready(&self.client()).await
    }

    /// [`wait_ready`](Self::wait_ready) for code that is not async: `None` if it takes longer than
    /// `limit`. Blocks the thread.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// use std::time::Duration;
    ///
    /// match service.wait_ready_blocking(Duration::from_secs(30))? {
    ///     Some(info) => println!("on port {}", info.port()),
    ///     None => println!("nobody has started it"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait_ready`](Self::wait_ready).
    pub fn wait_ready_blocking(&self, limit: Duration) -> Result<Option<ServiceInfo>> {
        let ready = Host.timeout(limit, self.wait_ready());
        pollster::block_on(ready).map_or(Ok(None), |ready| ready.map(Some))
    }

    /// Waits until the service does not run any more: nobody holds it, it was stopped, and what it had
    /// left in the kernel and the runtime directory is removed. At once if there is no service.
    ///
    /// Nothing polls and no executor's thread is blocked: one thread per process and service sleeps in the
    /// kernel, however many futures wait. Creates no reference, and starts and stops nothing. By the time
    /// this returns somebody may have started the service again; and where somebody removes the kernel
    /// object by hand, that counts as its end.
    ///
    /// What nobody sees to, an orphan with [`Orphan::Keep`] or a pinned instance that dies without a
    /// client, is found dead here only at the call: the kernel tells nobody of its end.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// service.wait_stopped().await?;
    /// println!("the last client has let go, or was killed");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count), or there is no thread to be had.
    pub async fn wait_stopped(&self) -> Result<()> {
        follow::wait_stopped(&self.client()).await
    }

    /// [`wait_stopped`](Self::wait_stopped) for code that is not async: false if it takes longer than
    /// `limit`. Blocks the thread.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// use std::time::Duration;
    ///
    /// assert!(service.wait_stopped_blocking(Duration::from_secs(30))?, "somebody uses it still");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait_stopped`](Self::wait_stopped).
    pub fn wait_stopped_blocking(&self, limit: Duration) -> Result<bool> {
        let stopped = Host.timeout(limit, self.wait_stopped());
        pollster::block_on(stopped).map_or(Ok(false), |stopped| stopped.map(|()| true))
    }

    /// How many processes hold a reference right now; 0 if the service does not run.
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
    /// The kernel refuses, or its object under this service's key is not ours.
    pub fn count(&self) -> Result<u32> {
        Ok(self.look()?.map_or(0, |snapshot| snapshot.clients))
    }

    /// What the kernel tells about the service right now: how far it is, who holds it, since when.
    /// Changes and creates nothing.
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
    /// As [`count`](Self::count).
    pub fn status(&self) -> Result<Status> {
        status::look(&self.key)
    }

    fn look(&self) -> Result<Option<Snapshot>> {
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

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The runtime directory, resolved.
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

    /// The kernel object that counts the clients, as the system's tools name it: on Linux the key of a
    /// semaphore set as [`ipcs -s`](https://man7.org/linux/man-pages/man1/ipcs.1.html) prints it. It
    /// exists while the service runs.
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

// What is shared between threads must be fit for it, whatever it comes to hold.
const _: () = {
    const fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<SharedService>();
    is_shared::<ServiceHandle>();
    is_shared::<ServiceInfo>();
    is_shared::<Services>();
    is_shared::<Collected>();
};
