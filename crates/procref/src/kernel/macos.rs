//! The kernel of macOS: keepers.

use std::sync::Arc;

pub(crate) use super::counted::Counted;
use super::counted::RemoteArray;
use super::semset::Set;

/// An open object, for the code that starts a supervisor: a thread of the keeper.
pub(crate) type NativeSet = Arc<RemoteArray>;

impl Set<Arc<RemoteArray>> {
    /// Returns the object for the code that starts a supervisor.
    pub(crate) fn signal_safe(&self) -> NativeSet {
        Arc::clone(self.array())
    }
}
