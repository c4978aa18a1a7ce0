//! Stands for signals, which do not exist on Windows.

/// A guard without effect, because no console suspends a process.
#[must_use = "dropping the guard ends its effect"]
pub(crate) struct Unsuspended;

impl Unsuspended {
    pub(crate) fn begin() -> Self {
        Self
    }
}
