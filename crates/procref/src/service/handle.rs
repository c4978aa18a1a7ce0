use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::engine::handle::HandleInner;
use crate::engine::platform::Platform as _;
use crate::error::Result;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::runtime;

/// A reference to a running service. The service runs while any process holds one.
///
/// Dropping the handle releases the reference. When the last handle of all processes is released, the service stops.
/// The kernel counts the references, so a process that dies releases its reference, too.
///
/// # Drop
///
/// Dropping a handle never panics. It works in async code, on a runtime that is shutting down, without a runtime, and
/// while a panic unwinds.
///
/// It takes about a microsecond if other handles remain, in this process or in others. The same is true for the last
/// handle of a service that lingers or was started as a [`command`](crate::SharedServiceBuilder::command), because its
/// supervisor stops the service. In all other cases, dropping the last handle waits until the service is dead, at most
/// for the stop timeout and 5 s. The stop callback then runs on its own thread; with the `tokio` feature, that thread
/// has a tokio runtime. Use [`release`](Self::release) to wait without blocking, and to get the error.
///
/// # Fork
///
/// A child made by `fork` owns no reference of its parent. Dropping its copies of handles does nothing. It can acquire
/// the service itself.
///
/// ```no_run
/// # async fn example(service: procref::SharedService) -> procref::Result<()> {
/// let handle = service.acquire().await?;
/// println!("pid {} on port {}", handle.pid(), handle.port());
/// println!("instance {}: {:?}", handle.generation(), handle.info().get_metadata("version"));
/// handle.release().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the handle releases the service"]
pub struct ServiceHandle {
    inner: HandleInner<Host>,
}

impl ServiceHandle {
    pub(crate) fn new(inner: HandleInner<Host>) -> Self {
        Self { inner }
    }

    /// Returns the instance at the time when this handle was acquired.
    #[must_use]
    pub fn info(&self) -> &ServiceInfo {
        &self.inner.current().info
    }

    /// Returns the settings that the instance's starter shares with other clients; see
    /// [`definition`](crate::SharedServiceBuilder::definition). The map is empty if the starter shares none, or if the
    /// record is missing.
    ///
    /// ```no_run
    /// # fn example(handle: procref::ServiceHandle) {
    /// if handle.definition().get("version").map(String::as_str) != Some("16") {
    ///     eprintln!("another version of the database is running");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn definition(&self) -> &BTreeMap<String, String> {
        &self.inner.current().definition
    }

    /// Returns the instance that serves now. Returns `None` if it is dead and not replaced yet, or is being started or
    /// stopped.
    ///
    /// This differs from [`info`](Self::info) after a client of any process has recovered the service. The
    /// handle stays valid, because it is a reference to the service. If the instance is still the same, the
    /// call costs one or two system calls. It does not run the health check.
    ///
    /// ```no_run
    /// # async fn example(handle: procref::ServiceHandle) -> procref::Result<()> {
    /// handle.wait_dead().await?;
    /// if let Some(info) = handle.current()? {
    ///     println!("recovered, now on port {}", info.port());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::NoReference`](crate::Error::NoReference): this is a forked child.
    /// - Those of [`SharedService::count`](crate::SharedService::count).
    pub fn current(&self) -> Result<Option<ServiceInfo>> {
        pollster::block_on(self.inner.serving())
    }

    /// Waits until the instance that this handle was [acquired with](Self::info) is dead. Acquire the service again to
    /// use another instance.
    ///
    /// This call does not poll and does not block an executor's thread: one thread per process and instance waits in
    /// the kernel, for any number of futures. The future may be dropped at any time.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidSetting`](crate::Error::InvalidSetting): the service has no local process (pid 0).
    /// - [`Error::NoReference`](crate::Error::NoReference): this is a forked child.
    /// - [`Error::Thread`](crate::Error::Thread): no thread could be started.
    /// - [`Error::Process`](crate::Error::Process): the system refused the wait.
    pub async fn wait_dead(&self) -> Result<()> {
        self.inner.wait_dead().await
    }

    /// Blocking version of [`wait_dead`](Self::wait_dead). Returns `false` if the instance is still alive after
    /// `limit`.
    ///
    /// ```no_run
    /// # fn example(handle: procref::ServiceHandle) -> procref::Result<()> {
    /// use std::time::Duration;
    ///
    /// while !handle.wait_dead_blocking(Duration::from_secs(1))? {
    ///     println!("the service is alive");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`wait_dead`](Self::wait_dead).
    pub fn wait_dead_blocking(&self, limit: Duration) -> Result<bool> {
        let dead = Host.timeout(limit, self.wait_dead());
        pollster::block_on(dead).map_or(Ok(false), |dead| dead.map(|()| true))
    }

    /// Returns the service's process id. Returns 0 if it has no local process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.info().pid()
    }

    /// Returns the service's port. Returns 0 if it has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.info().port()
    }

    /// Returns the number of the instance.
    ///
    /// Starts and recoveries are counted from 1 while the service is in use. The count restarts after the
    /// service was stopped. After 32,767 comes 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.inner.current().generation.into()
    }

    /// Keeps the service after its last client, until it is [unpinned](crate::SharedService::unpin).
    ///
    /// The pin belongs to the service, not to the handle or the process. It stays when all clients release
    /// the service or are killed, and when a dead instance is replaced. The next client gets the same
    /// instance. Pinning a pinned service changes nothing. A pin does not survive a reboot.
    ///
    /// On Windows the service's own process keeps the pin, by handles that it is given. There the pin ends with an
    /// instance that dies without a client, and a service without a local process (pid 0) cannot be pinned.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let handle = service.acquire().await?;
    /// handle.pin()?;
    /// handle.release().await?; // the service continues to run
    /// assert!(service.unpin().await?); // now it stops
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::NoReference`](crate::Error::NoReference): this is a forked child, or the kernel object was removed
    ///   from outside.
    /// - [`Error::Kernel`](crate::Error::Kernel): the kernel refused the step. On Windows: the instance cannot be
    ///   pinned.
    pub fn pin(&self) -> Result<()> {
        pollster::block_on(self.inner.pin())
    }

    /// Releases the reference. If it was the last one, this waits until the service is dead, unless a supervisor stops
    /// it.
    ///
    /// A supervisor stops a service that lingers, and one that was started as a
    /// [`command`](crate::SharedServiceBuilder::command). To wait for the end of such a service, use
    /// [`wait_stopped`](crate::SharedService::wait_stopped).
    ///
    /// If the future is dropped before it is done, a background thread finishes the release.
    ///
    /// # Errors
    ///
    /// The reference is released in all these cases.
    ///
    /// - [`Error::Callback`](crate::Error::Callback), [`Error::CallbackPanicked`](crate::Error::CallbackPanicked):
    ///   `on_last_release` failed or panicked, and procref stopped the service itself.
    /// - [`Error::Timeout`](crate::Error::Timeout): `on_last_release` took longer than the stop timeout, and procref
    ///   stopped the service itself; or another process held the lock for too long.
    /// - [`Error::Unstoppable`](crate::Error::Unstoppable): the service could not be stopped.
    /// - [`Error::Kernel`](crate::Error::Kernel), [`Error::Process`](crate::Error::Process),
    ///   [`Error::Namespaces`](crate::Error::Namespaces): the system refused an operation.
    pub async fn release(self) -> Result<()> {
        match self.inner.release() {
            Some(release) => release.await,
            None => Ok(()),
        }
    }

    /// Blocking version of [`release`](Self::release).
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let handle = service.acquire_blocking()?;
    /// handle.release_blocking()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`release`](Self::release).
    pub fn release_blocking(self) -> Result<()> {
        match self.inner.release() {
            Some(release) => runtime::block_on(release),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle")
            .field("info", self.info())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
