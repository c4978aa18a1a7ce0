//! Signals, which do not exist on Windows: no console suspends a process.

#[must_use = "it ends when it is dropped"]
pub(crate) struct Unsuspended;

impl Unsuspended {
    pub(crate) fn begin() -> Self {
        Self
    }
}
