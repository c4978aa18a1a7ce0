//! The values that a service reports together with its readiness.

use std::collections::BTreeMap;

/// The values that a service sent before or with `READY=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notified {
    /// The port on which the service listens. `None` if the service sent none.
    pub(crate) port: Option<u16>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Notified {
    pub(crate) fn is_empty(&self) -> bool {
        self.port.is_none() && self.metadata.is_empty()
    }
}
