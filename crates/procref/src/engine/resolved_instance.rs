//! An instance as a client knows it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::platform::{ObjectOf, Platform, ServiceProcess as _};
use super::shared_wait::SharedWait;
use crate::info::ServiceInfo;
use crate::kernel::{Instance, Object};

/// An instance with its process and its metadata.
pub(crate) struct ResolvedInstance<W: Platform> {
    pub(crate) instance: Instance,
    pub(crate) generation: u16,
    pub(crate) info: ServiceInfo,
    /// `None` if the instance has no metadata, or its record was missing.
    pub(crate) fingerprint: Option<String>,
    /// The settings that its starter shares with other clients.
    pub(crate) definition: BTreeMap<String, String>,
    /// `None` if the process was dead when the instance was resolved, or the instance is remote.
    pub(crate) process: Option<Arc<W::Process>>,
    /// The thread that waits for the process to exit.
    pub(crate) death: SharedWait,
    /// The step that joins this instance again.
    pub(crate) rejoin: OnceLock<<ObjectOf<W> as Object>::Rejoin>,
}

impl<W: Platform> ResolvedInstance<W> {
    /// Returns `true` if the instance has no process on this machine (pid 0).
    pub(crate) fn is_remote(&self) -> bool {
        self.instance.identity.pid == 0
    }

    /// Returns `true` if the process lives. A remote instance counts as alive: only its health check can decide that.
    pub(crate) async fn is_alive(&self) -> bool {
        match &self.process {
            Some(process) => process.is_alive().await,
            None => self.is_remote(),
        }
    }
}
