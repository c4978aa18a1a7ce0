use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::engine::handle::HandleInner;
use crate::engine::platform::Platform as _;
use crate::error::Result;
use crate::host::Host;
use crate::info::ServiceInfo;
use crate::runtime;

/// A reference to a running service. While any process holds one, the service stays.
///
/// Dropping it gives the reference back; the last one of all processes stops the service. So does
/// the end of the process, however it ends: the kernel counts.
///
/// # Dropping
///
/// Dropping never panics, and works wherever a drop can happen: in async code, on a runtime that
/// is shutting down, without any runtime, while a panic unwinds. Where other handles remain,
/// here or in other processes, it takes a microsecond; also the last one of a service that is kept
/// warm, or was started as a [`command`](crate::SharedServiceBuilder::command), because its supervisor
/// stops that. Otherwise the very last one waits until the service
/// is gone, at most the stop timeout and 5 s; the stop callback runs on a thread of its own, with a
/// tokio runtime of its own when that feature is on. To wait without blocking, and to see the
/// error, use [`release`](Self::release).
///
/// # Fork
///
/// A child made by `fork` owns no reference of its parent's: its copies of handles do nothing when
/// they are dropped, and what it acquires itself is its own.
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
#[must_use = "dropping the handle gives the service back"]
pub struct ServiceHandle {
    lease: HandleInner<Host>,
}

impl ServiceHandle {
    pub(crate) fn new(lease: HandleInner<Host>) -> Self {
        Self { lease }
    }

    /// The instance as it was when this handle was acquired.
    #[must_use]
    pub fn info(&self) -> &ServiceInfo {
        &self.lease.current().info
    }

    /// The settings that the client that started the instance wanted others to know; see
    /// [`definition`](crate::SharedServiceBuilder::definition). Empty if it gave none, or the record is gone.
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
        &self.lease.current().definition
    }

    /// The instance that serves now. `None` while none does: it is dead, and nobody has replaced it yet,
    /// or is being started or stopped.
    ///
    /// That is another one than [`info`](Self::info) tells once somebody, here or in another process, has
    /// recovered the service. The handle is a reference to the service and stays good. Costs a system call
    /// or two where it is still the same; does not ask the health check.
    ///
    /// ```no_run
    /// # async fn example(handle: procref::ServiceHandle) -> procref::Result<()> {
    /// handle.wait_dead().await?;
    /// if let Some(info) = handle.current()? {
    ///     println!("recovered already, now on port {}", info.port());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`SharedService::count`](crate::SharedService::count), and
    /// [`Error::NoReference`](crate::Error::NoReference) in a forked child.
    pub fn current(&self) -> Result<Option<ServiceInfo>> {
        pollster::block_on(self.lease.serving())
    }

    /// Waits until the instance that this handle was [acquired with](Self::info) is dead. To go on with
    /// another one, acquire again.
    ///
    /// Nothing polls and no executor's thread is blocked: one thread per process and instance waits in the
    /// kernel, however many futures do. The future may be dropped at any point.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting): the service has no local process (pid 0).
    /// [`Error::NoReference`](crate::Error::NoReference) in a forked child.
    /// [`Error::Thread`](crate::Error::Thread), [`Error::Process`](crate::Error::Process): the system
    /// refuses.
    pub async fn wait_dead(&self) -> Result<()> {
        self.lease.wait_dead().await
    }

    /// [`wait_dead`](Self::wait_dead) for code that is not async: false if it takes longer than `limit`.
    /// Blocks the thread.
    ///
    /// ```no_run
    /// # fn example(handle: procref::ServiceHandle) -> procref::Result<()> {
    /// use std::time::Duration;
    ///
    /// while !handle.wait_dead_blocking(Duration::from_secs(1))? {
    ///     println!("it lives, and there is something else to do");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait_dead`](Self::wait_dead).
    pub fn wait_dead_blocking(&self, limit: Duration) -> Result<bool> {
        let dead = Host.timeout(limit, self.wait_dead());
        pollster::block_on(dead).map_or(Ok(false), |dead| dead.map(|()| true))
    }

    /// The service's process id; 0 where it has no local process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.info().pid()
    }

    /// The service's port; 0 where it has none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.info().port()
    }

    /// Which instance it is: counts starts and recoveries from 1 while the service is in use, and
    /// begins anew once it was stopped. After 32,767 comes 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.lease.current().generation.into()
    }

    /// Keeps the service after its last client, until somebody [unpins](crate::SharedService::unpin) it.
    ///
    /// The pin is the service's, not the handle's or the process's: it stays when all clients let go or
    /// are killed, and when a dead instance is replaced. The next client finds the instance as it was.
    /// Pinning what is pinned already changes nothing. It ends with the machine.
    ///
    /// On Windows the service's own process keeps the pin, by handles that it is given. There it ends
    /// with an instance that ends while it has no client, and a service without a local process (pid 0)
    /// cannot be pinned.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let handle = service.acquire().await?;
    /// handle.pin()?;
    /// handle.release().await?; // it runs on
    /// assert!(service.unpin().await?); // now it ends
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoReference`](crate::Error::NoReference) in a forked child, or if somebody removed the
    /// kernel object. [`Error::Kernel`](crate::Error::Kernel) on Windows, if it cannot be pinned.
    pub fn pin(&self) -> Result<()> {
        pollster::block_on(self.lease.pin())
    }

    /// Gives the reference back, and if it was the last one waits until the service is gone, unless a
    /// supervisor stops it: one that is kept warm, or was started as a
    /// [`command`](crate::SharedServiceBuilder::command), is left to that. To wait for its end, too, use
    /// [`wait_stopped`](crate::SharedService::wait_stopped).
    ///
    /// A future that is dropped before it is done is finished by a thread in the background.
    ///
    /// # Errors
    ///
    /// `on_last_release` failed, panicked or took longer than the stop timeout (the service was stopped
    /// all the same), or the service could not be stopped
    /// ([`Error::Unstoppable`](crate::Error::Unstoppable)). The reference is given back in any case.
    pub async fn release(self) -> Result<()> {
        match self.lease.release() {
            Some(release) => release.await,
            None => Ok(()),
        }
    }

    /// [`release`](Self::release) for code that is not async. Blocks the thread.
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
    /// As [`release`](Self::release).
    pub fn release_blocking(self) -> Result<()> {
        match self.lease.release() {
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
