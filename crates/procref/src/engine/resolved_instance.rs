//! An instance as a client knows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::platform::Platform;
use super::shared_wait::SharedWait;
use crate::info::ServiceInfo;
use crate::kernel::Instance;

/// The instance a handle is of.
pub(crate) struct ResolvedInstance<W: Platform> {
    pub(crate) instance: Instance,
    pub(crate) generation: u16,
    pub(crate) info: ServiceInfo,
    /// `None`: it has none, or its record was gone.
    pub(crate) fingerprint: Option<String>,
    /// The settings that its starter wanted others to know.
    pub(crate) definition: BTreeMap<String, String>,
    /// `None`: dead when it was looked up, or there is no local process.
    pub(crate) process: Option<Arc<W::Process>>,
    /// The one thread that waits for its end.
    pub(crate) death: SharedWait,
}
