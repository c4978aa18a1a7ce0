//! Unpins and stops a service.

use super::SharedService;
use crate::engine::pin;
use crate::engine::stop_service::{self, IfHeld};
use crate::error::Result;
use crate::runtime;

impl SharedService {
    /// Ends a [`pin`](crate::ServiceHandle::pin), so that the service stops after its last client again. Returns `true`
    /// if the service was pinned.
    ///
    /// If no process holds the service, this process does what a last client does: it calls `on_last_release`, waits
    /// until the service is dead, and cleans up. A service that [lingers](crate::SharedServiceBuilder::linger) is left
    /// to its supervisor. If another process is starting or stopping the service, this call waits for it.
    ///
    /// ```no_run
    /// # async fn example(service: procref::SharedService) -> procref::Result<()> {
    /// if service.unpin().await? {
    ///     println!("the service stops after its last client");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - Those of [`release`](crate::ServiceHandle::release). The pin is removed in this case.
    /// - [`Error::Timeout`]: another process took longer than the wait timeout. The pin is still there.
    /// - [`Error::Kernel`], [`Error::Foreign`]: the system refused an operation. The pin is still there.
    ///
    /// [`Error::Timeout`]: crate::Error::Timeout
    /// [`Error::Kernel`]: crate::Error::Kernel
    /// [`Error::Foreign`]: crate::Error::Foreign
    pub async fn unpin(&self) -> Result<bool> {
        pin::unpin(&self.client(), &self.config).await
    }

    /// Blocking version of [`unpin`](Self::unpin).
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
    /// See [`unpin`](Self::unpin).
    pub fn unpin_blocking(&self) -> Result<bool> {
        runtime::block_on(self.unpin())
    }

    /// Stops the service if no process holds it: a service that is pinned, that lingers, or that clients left when they
    /// died. Returns `true` if it ran or was pinned.
    ///
    /// The service gets the stop signal that its starter has set, and is killed after the stop timeout. When this call
    /// returns, all its processes are dead, and its pin is removed. The next [`acquire`](Self::acquire) starts it.
    ///
    /// A client that is starting the service holds it already. If another process is stopping the service, this call
    /// waits for it.
    ///
    /// If the future is dropped after it has begun to stop the service, a background thread finishes the stop.
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
    /// In the first three cases, nothing has changed.
    ///
    /// - [`Error::Held`]: a process holds the service, or a handle of this process does. If the only holder is starting
    ///   or stopping the service, this call waits for it first.
    /// - [`Error::Timeout`]: another process took longer than the wait timeout.
    /// - [`Error::Suspended`]: the process that this call waits for is suspended.
    /// - [`Error::Callback`]: `on_last_release` failed, and procref stopped the service itself.
    /// - [`Error::CallbackPanicked`]: `on_last_release` panicked, and procref stopped the service itself.
    /// - [`Error::Unstoppable`]: the service could not be stopped.
    /// - [`Error::Kernel`], [`Error::Foreign`], [`Error::Process`], [`Error::Namespaces`]: the system refused an
    ///   operation.
    ///
    /// [`Error::Held`]: crate::Error::Held
    /// [`Error::Timeout`]: crate::Error::Timeout
    /// [`Error::Suspended`]: crate::Error::Suspended
    /// [`Error::Callback`]: crate::Error::Callback
    /// [`Error::CallbackPanicked`]: crate::Error::CallbackPanicked
    /// [`Error::Unstoppable`]: crate::Error::Unstoppable
    /// [`Error::Kernel`]: crate::Error::Kernel
    /// [`Error::Foreign`]: crate::Error::Foreign
    /// [`Error::Process`]: crate::Error::Process
    /// [`Error::Namespaces`]: crate::Error::Namespaces
    pub async fn stop(&self) -> Result<bool> {
        stop_service::stop(&self.client(), &self.config, IfHeld::Refuse).await
    }

    /// Blocking version of [`stop`](Self::stop).
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
    /// See [`stop`](Self::stop).
    pub fn stop_blocking(&self) -> Result<bool> {
        runtime::block_on(self.stop())
    }

    /// Stops the service like [`stop`](Self::stop), even while clients hold it.
    ///
    /// The clients keep their references, but the service does not run: their
    /// [`wait_dead`](crate::ServiceHandle::wait_dead) returns, and [`current`](crate::ServiceHandle::current) returns
    /// `None`. The next process that acquires the service starts it again, whether it is one of these clients or not.
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
    /// Those of [`stop`](Self::stop), except [`Error::Held`](crate::Error::Held).
    pub async fn force_stop(&self) -> Result<bool> {
        stop_service::stop(&self.client(), &self.config, IfHeld::Override).await
    }

    /// Blocking version of [`force_stop`](Self::force_stop).
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// service.force_stop_blocking()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`force_stop`](Self::force_stop).
    pub fn force_stop_blocking(&self) -> Result<bool> {
        runtime::block_on(self.force_stop())
    }
}
