//! The part of a handle that is independent of the platform.

use std::sync::Arc;

use super::client::{Client, Dropped};
use super::config::Config;
use super::platform::Platform;
use super::release::Release;
use super::resolved_instance::ResolvedInstance;
use super::transition::{Transition, try_leave};
use crate::error::{Error, Result};

/// A handle: one count of its process's reference.
///
/// Further `impl` blocks: `pin.rs` pins the service, and `follow.rs` waits for the instance.
pub(crate) struct HandleInner<W: Platform> {
    client: Arc<Client<W>>,
    config: Arc<Config>,
    current: Arc<ResolvedInstance<W>>,
    /// `true` if the handle was dropped. The client does not count it any more.
    dropped: bool,
}

impl<W: Platform> HandleInner<W> {
    /// Makes a handle that the client has counted already.
    pub(crate) fn new(
        client: &Arc<Client<W>>,
        config: &Arc<Config>,
        current: Arc<ResolvedInstance<W>>,
    ) -> Self {
        Self {
            client: Arc::clone(client),
            config: Arc::clone(config),
            current,
            dropped: false,
        }
    }

    pub(crate) fn current(&self) -> &ResolvedInstance<W> {
        &self.current
    }

    pub(crate) fn shared(&self) -> &Arc<ResolvedInstance<W>> {
        &self.current
    }

    pub(crate) fn client(&self) -> &Arc<Client<W>> {
        &self.client
    }

    /// Returns an error in a forked child.
    pub(crate) fn check_ours(&self, operation: &'static str) -> Result<()> {
        if self.client.is_ours() {
            return Ok(());
        }
        let reason = "this is a forked child, which owns no handle of its parent";
        Err(self.no_reference(operation, reason))
    }

    /// Returns the error of a handle whose kernel object was removed.
    pub(crate) fn lost(&self, operation: &'static str) -> Error {
        let reason = "its kernel object was removed from outside, and every reference with it";
        self.no_reference(operation, reason)
    }

    fn no_reference(&self, operation: &'static str, reason: &'static str) -> Error {
        Error::NoReference {
            service: self.client.key.name().to_owned(),
            operation,
            reason,
        }
    }

    /// Drops the handle. Returns the remaining release, if it was this process's last handle.
    pub(crate) fn release(mut self) -> Option<Release<W>> {
        self.drop_handle()
    }

    fn drop_handle(&mut self) -> Option<Release<W>> {
        if std::mem::replace(&mut self.dropped, true) || !self.client.is_ours() {
            return None;
        }
        match self.client.drop_handle() {
            Dropped::NotLast => None,
            Dropped::Last(last) => {
                if try_leave(&last) {
                    return None;
                }
                Transition::of_last_handle(last.permit, &self.config).begin_release()
            }
        }
    }
}

impl<W: Platform> Drop for HandleInner<W> {
    fn drop(&mut self) {
        if let Some(release) = self.drop_handle() {
            release.finish_here(self.config.drop_patience());
        }
    }
}
