//! The objects that this process has open, and how an instance is written to them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use procref_supervisor::state::encode_limit;
use procref_winsys::event;

use super::shared::{Shared, section_name};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Instance, Lock, Missing, Step};
use crate::key::ServiceKey;
use crate::process::KILL_TIMEOUT;

/// Returns the objects that this process has open, by the name of their section.
///
/// A process opens each object once. References and locks belong to the process, not to the handle that took
/// them. And locks of two handles on one file exclude each other, even within one process.
pub(super) fn opened() -> MutexGuard<'static, HashMap<String, Arc<Shared>>> {
    static OPENED: OnceLock<Mutex<HashMap<String, Arc<Shared>>>> = OnceLock::new();
    let opened = OPENED.get_or_init(Mutex::default).lock();
    opened.unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Returns the service's object, and opens it if this process has not opened it yet.
    pub(super) fn find(key: &ServiceKey, missing: Missing) -> Result<Option<Arc<Self>>> {
        let name = section_name(key);
        let mut opened = opened();
        if let Some(known) = opened.get(&name) {
            match known.step("open the object", |_| Ok(())) {
                Ok(()) => return Ok(Some(Arc::clone(known))),
                Err(Fault::Removed) => {}
                Err(Fault::Refused(error)) => return Err(error),
            }
            opened.remove(&name);
        }
        check_counting(key)?;
        let Some(shared) = Self::open(key, name, missing)? else {
            return Ok(None);
        };
        let shared = Arc::new(shared);
        opened.insert(shared.name.clone(), Arc::clone(&shared));
        Ok(Some(shared))
    }

    pub(super) fn publish(
        &self,
        instance: Option<&Instance>,
        generation: u16,
        lock: Lock,
    ) -> Step<()> {
        let Some(instance) = instance else {
            // This comes before the instance is cleared. It runs without the step lock, because it may take
            // some time. Only this process changes the service, because it holds the transition lock.
            if !self.end_tree(KILL_TIMEOUT)? {
                let error = io::Error::new(
                    io::ErrorKind::TimedOut,
                    "processes that the service started are alive 5 s after they were terminated",
                );
                return Err(self.fault("end the service's other processes", error.into()));
            }
            return self.write_instance("clear the instance", (None, generation), None, lock);
        };
        let written = (Some(instance), generation);
        self.write_instance("publish the instance", written, None, lock)
    }

    pub(super) fn write_instance(
        &self,
        operation: &'static str,
        (instance, generation): (Option<&Instance>, u16),
        limit: Option<Duration>,
        lock: Lock,
    ) -> Step<()> {
        self.step(operation, |step| {
            if let Some(limit) = limit {
                step.state.limit_ms = encode_limit(limit);
            }
            match instance {
                Some(instance) => step.tie_to_clients(instance)?,
                None => step.state.given = (0, 0),
            }
            step.state.instance = instance.copied();
            step.state.generation = generation;
            step.changed = true;
            if lock == Lock::Release {
                step.release_lock()?;
            }
            Ok(())
        })
    }

    /// Terminates every process in the job, without the step lock. Returns `false` if some are still alive
    /// after `patience`.
    pub(super) fn end_tree(&self, patience: Duration) -> Step<bool> {
        let job = self.held().job.clone();
        let Some(job) = job else {
            return Ok(true);
        };
        job.terminate(patience)
            .map_err(|error| self.fault("end the processes of the service", error.into()))
    }
}

/// Checks, once per process, that Windows counts handles in the way that references require.
fn check_counting(key: &ServiceKey) -> Result<()> {
    static COUNTS: OnceLock<bool> = OnceLock::new();
    let failed = |source| Error::Kernel {
        service: key.name().to_owned(),
        operation: "count the handles on a named object",
        advice: "this version of Windows counts them in another way; please report it".to_owned(),
        source,
    };
    if COUNTS.get().is_none() {
        let counts = event::counts_handles().map_err(failed)?;
        let _ = COUNTS.set(counts);
    }
    match COUNTS.get() {
        Some(true) => Ok(()),
        _ => Err(failed(io::Error::other(
            "Windows does not count two handles as two",
        ))),
    }
}
