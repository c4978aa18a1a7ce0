//! The handle of a service, without its public interface.

use std::sync::Arc;

use super::client::{Client, Dropped};
use super::config::Config;
use super::platform::Platform;
use super::release::Release;
use super::resolved_instance::ResolvedInstance;
use super::transition::Transition;
use crate::error::{Error, Result};

/// What a handle keeps: one count of its process's reference.
pub(crate) struct HandleInner<W: Platform> {
    client: Arc<Client<W>>,
    config: Arc<Config>,
    current: Arc<ResolvedInstance<W>>,
    drop_handle: bool,
}

impl<W: Platform> HandleInner<W> {
    pub(crate) fn current(&self) -> &ResolvedInstance<W> {
        &self.current
    }

    pub(crate) fn shared(&self) -> &Arc<ResolvedInstance<W>> {
        &self.current
    }

    pub(crate) fn client(&self) -> &Arc<Client<W>> {
        &self.client
    }

    /// An error in a forked child.
    pub(crate) fn check_ours(&self, operation: &'static str) -> Result<()> {
        if self.client.is_ours() {
            return Ok(());
        }
        Err(Error::NoReference {
            service: self.client.key.name().to_owned(),
            operation,
            reason: "this is a forked child, which owns no handle of its parent's",
        })
    }

    /// What to say when the kernel object is gone although there are handles.
    pub(crate) fn lost(&self, operation: &'static str) -> Error {
        Error::NoReference {
            service: self.client.key.name().to_owned(),
            operation,
            reason: "somebody removed its kernel object, and every reference with it",
        }
    }

    /// For a handle that the seat has counted.
    pub(crate) fn new(
        client: &Arc<Client<W>>,
        config: &Arc<Config>,
        current: Arc<ResolvedInstance<W>>,
    ) -> Self {
        Self {
            client: Arc::clone(client),
            config: Arc::clone(config),
            current,
            drop_handle: false,
        }
    }

    /// Puts it down; what is left to do then, if it was this process's last.
    pub(crate) fn release(mut self) -> Option<Release<W>> {
        self.drop_handle()
    }

    fn drop_handle(&mut self) -> Option<Release<W>> {
        if std::mem::replace(&mut self.drop_handle, true) || !self.client.is_ours() {
            return None;
        }
        match self.client.drop_handle() {
            Dropped::NotLast => None,
            Dropped::Last(permit) => {
                let mut transition = Transition::of_last_handle(permit, &self.config);
                match transition.try_release() {
                    true => None,
                    false => transition.begin_release(),
                }
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
