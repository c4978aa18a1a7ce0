//! Waits until a service is ready, or has stopped.

use std::time::Duration;

use super::{SharedService, wait_ready};
use crate::engine::follow;
use crate::engine::platform::Platform as _;
use crate::error::Result;
use crate::host::Host;
use crate::info::ServiceInfo;

impl SharedService {
    /// Waits until the service can be joined, and returns its instance. Any process may start it. Returns immediately
    /// if the service runs already.
    ///
    /// This call does not poll and does not block an executor's thread. It starts nothing and takes no reference, so
    /// the service may have stopped again when the call returns. It does not run the health check. A fingerprint makes
    /// no difference, unless it is [`Separate`](crate::Mismatch::Separate).
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// let info = service.wait_ready().await?;
    /// println!("the service runs on port {}", info.port());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::RuntimeDir`](crate::Error::RuntimeDir): the runtime directory is missing or cannot be watched.
    /// - [`Error::Thread`](crate::Error::Thread): no thread could be started.
    /// - [`Error::Recursion`](crate::Error::Recursion): the start of the service waits for the service itself.
    /// - Those of [`count`](Self::count).
    pub async fn wait_ready(&self) -> Result<ServiceInfo> {
        wait_ready::wait_ready(&self.client()).await
    }

    /// Blocking version of [`wait_ready`](Self::wait_ready). Returns `None` if the service is not ready within `limit`.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// use std::time::Duration;
    ///
    /// match service.wait_ready_blocking(Duration::from_secs(30))? {
    ///     Some(info) => println!("the service runs on port {}", info.port()),
    ///     None => println!("the service was not started"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`wait_ready`](Self::wait_ready).
    pub fn wait_ready_blocking(&self, limit: Duration) -> Result<Option<ServiceInfo>> {
        let ready = Host.timeout(limit, self.wait_ready());
        pollster::block_on(ready).map_or(Ok(None), |ready| ready.map(Some))
    }

    /// Waits until the service has stopped: no process holds it, and its kernel object and its files are removed.
    /// Returns immediately if the service does not exist.
    ///
    /// This call does not poll and does not block an executor's thread: one thread per process and service
    /// sleeps in the kernel, for any number of futures. It takes no reference, and starts and stops nothing.
    /// When it returns, another process may have started the service again. If another program removes the
    /// kernel object, this call returns, too.
    ///
    /// If no process will stop the service, this call notices its exit only at the beginning, because the
    /// kernel does not report it. This applies to an orphan with [`Orphan::Keep`](crate::Orphan::Keep), and
    /// to a pinned instance that dies without a client.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// service.wait_stopped().await?;
    /// println!("the service has stopped");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::Thread`](crate::Error::Thread): no thread could be started.
    /// - Those of [`count`](Self::count).
    pub async fn wait_stopped(&self) -> Result<()> {
        follow::wait_stopped(&self.client()).await
    }

    /// Blocking version of [`wait_stopped`](Self::wait_stopped). Returns `false` if the service has not stopped within
    /// `limit`.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// use std::time::Duration;
    ///
    /// assert!(service.wait_stopped_blocking(Duration::from_secs(30))?, "the service still runs");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`wait_stopped`](Self::wait_stopped).
    pub fn wait_stopped_blocking(&self, limit: Duration) -> Result<bool> {
        let stopped = Host.timeout(limit, self.wait_stopped());
        pollster::block_on(stopped).map_or(Ok(false), |stopped| stopped.map(|()| true))
    }
}
