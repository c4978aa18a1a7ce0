//! The object as the launch of a service uses it.

use std::os::windows::io::OwnedHandle;
use std::time::Duration;

use super::WindowsObject;
use crate::kernel::{Fault, Instance, Lock, Step};

/// An object whose steps are not futures. On Linux, the type of this name is a set that a supervisor can use.
pub(crate) struct NativeSet(WindowsObject);

impl NativeSet {
    pub(super) fn new(object: WindowsObject) -> Self {
        Self(object)
    }

    /// Terminates the leftover processes of an earlier instance. Returns `false` if some are still alive
    /// after `patience`.
    pub(crate) fn end_tree(&self, patience: Duration) -> Step<bool> {
        self.0.0.end_tree(patience)
    }

    /// Calls a function with the job. A process that holds the lock has opened the job.
    pub(crate) fn with_job<T>(&self, work: impl FnOnce(&OwnedHandle) -> T) -> Step<T> {
        let job = self.0.0.held().job.clone();
        job.map(|job| work(job.handle())).ok_or(Fault::Removed)
    }

    /// Puts a process into the job before its first instruction, and publishes it as the instance.
    pub(crate) fn admit(&self, instance: &Instance, generation: u16) -> Step<()> {
        self.0.0.publish(Some(instance), generation, Lock::Keep)
    }
}
