//! One step on an object, under its step lock.

use std::sync::Arc;
use std::time::SystemTime;

use procref_supervisor::state::decode_limit;
use procref_winsys::OpenFailure;
use procref_winsys::event::Event;
use procref_winsys::handle;
use procref_winsys::job::Job;
use procref_winsys::lock_file::LockMode;

use super::shared::{HeldObjects, Shared};
use super::state::{self, ObjectState};
use crate::error::Result;
use crate::kernel::{Fault, Instance, Snapshot, Step};

/// The data that a step reads and changes.
pub(super) struct StepContext<'a> {
    pub(super) shared: &'a Shared,
    pub(super) held: &'a mut HeldObjects,
    pub(super) state: ObjectState,
    /// `true` if `state` must be written when the step ends.
    pub(super) changed: bool,
}

/// Releases the step lock when dropped.
struct StepLock<'a> {
    shared: &'a Shared,
}

impl Drop for StepLock<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.shared.locks.unlock(self.shared.step_byte()) {
            tracing::error!(service = self.shared.service, %error, "could not release the step lock");
        }
    }
}

impl Shared {
    /// Performs a step. Other processes see all of its changes at once, or none.
    pub(super) fn step<T>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&mut StepContext<'_>) -> Result<T, OpenFailure>,
    ) -> Step<T> {
        let mut held = self.held();
        self.locks
            .lock(self.step_byte(), LockMode::Exclusive)
            .map_err(|error| self.fault(operation, error.into()))?;
        let step_lock = StepLock { shared: self };
        let state = state::read(&self.section);
        let Some(state) = state.filter(|state| state.incarnation == self.incarnation) else {
            self.forget(&mut held);
            return Err(Fault::Removed);
        };
        let mut context = StepContext {
            shared: self,
            held: &mut held,
            state,
            changed: false,
        };
        let done = step(&mut context).map_err(|failure| self.fault(operation, failure))?;
        if context.changed {
            context.state.changed_at = now();
            state::write(&self.section, &context.state);
        }
        let held = context.held;
        if !held.is_any() {
            held.job = None;
        }
        drop(step_lock);
        Ok(done)
    }
}

impl StepContext<'_> {
    /// Returns the number of references of all processes.
    pub(super) fn count(&self) -> Result<u32, OpenFailure> {
        if let Some(reference) = self.held.references.first() {
            return Ok(reference.handle_count()?);
        }
        let Some(event) = Event::open(&self.shared.object_name("refs"))? else {
            return Ok(0);
        };
        // Subtract the handle that was opened for counting, because it is not a reference.
        Ok(event.handle_count()?.saturating_sub(1))
    }

    /// Returns `true` if a process holds the transition lock.
    pub(super) fn is_locked(&self) -> Result<bool, OpenFailure> {
        if self.held.lock {
            return Ok(true);
        }
        let byte = self.shared.transition_byte();
        // Try shared mode, because each process that waits for the lock briefly holds it in that mode.
        if self.shared.locks.try_lock(byte, LockMode::Shared)? {
            self.shared.locks.unlock(byte)?;
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn take_lock(&mut self) -> Result<bool, OpenFailure> {
        let (locks, byte) = (&self.shared.locks, self.shared.transition_byte());
        loop {
            if self.is_locked()? {
                return Ok(false);
            }
            if locks.try_lock(byte, LockMode::Exclusive)? {
                break;
            }
            // Processes that waited for the lock have just woken, hold it in shared mode, and are about to release it. No
            // other process can take it, because that requires the step lock.
            std::thread::yield_now();
        }
        self.held.lock = true;
        self.state.lock_holder = std::process::id();
        self.changed = true;
        let done = self.open_job();
        self.or_unlock(done)?;
        Ok(true)
    }

    /// Releases the transition lock if the rest of the step failed, so that a failed step changes nothing.
    pub(super) fn or_unlock<T>(&mut self, done: Result<T, OpenFailure>) -> Result<T, OpenFailure> {
        if done.is_err() {
            self.release_lock()?;
        }
        done
    }

    pub(super) fn release_lock(&mut self) -> Result<(), OpenFailure> {
        if self.held.lock {
            self.shared.locks.unlock(self.shared.transition_byte())?;
            self.held.lock = false;
        }
        Ok(())
    }

    pub(super) fn take_reference(&mut self) -> Result<(), OpenFailure> {
        let reference = Event::create(&self.shared.object_name("refs"))?;
        if self.held.references.is_empty() {
            state::add_holder(&self.shared.section, std::process::id());
        }
        self.held.references.push(reference);
        Ok(())
    }

    pub(super) fn release_reference(&mut self) {
        self.held.references.pop();
        if self.held.references.is_empty() {
            state::remove_holder(&self.shared.section, std::process::id());
        }
    }

    /// Opens the job, or creates it.
    ///
    /// If the job had to be created, the last client has exited, and the kernel is ending the instance. The
    /// instance's process can appear alive for a short time. So the instance is marked as stopping: no client
    /// may use it any more, and the process that holds the lock stops it.
    pub(super) fn open_job(&mut self) -> Result<(), OpenFailure> {
        if self.held.job.is_some() {
            return Ok(());
        }
        let (job, existed) = Job::create(&self.shared.object_name("job"))?;
        self.held.job = Some(Arc::new(job));
        if let Some(instance) = &mut self.state.instance {
            if !existed && is_in_job(instance) {
                instance.stopping = true;
                self.changed = true;
            }
        }
        Ok(())
    }

    /// Makes an instance end with its last client. If the instance must outlive its clients, makes its data
    /// live as long as the instance.
    pub(super) fn tie_to_clients(&mut self, instance: &Instance) -> Result<(), OpenFailure> {
        if is_in_job(instance) {
            self.open_job()?;
            if let Some(job) = &self.held.job {
                job.assign(instance.identity.pid, instance.identity.start)?;
            }
        }
        let is_new = self
            .state
            .instance
            .is_none_or(|before| before.identity != instance.identity);
        if is_new {
            self.state.given = (0, 0);
            if self.state.pinned || instance.keep_orphan {
                self.give_handles(instance)?;
            }
        }
        Ok(())
    }

    /// Gives handles on the job and the section to an instance that must outlive its clients. These handles
    /// keep the process and its data, because after the last client has left, no other process may have
    /// handles. They are closed when the process exits.
    pub(super) fn give_handles(&mut self, instance: &Instance) -> Result<(), OpenFailure> {
        let identity = instance.identity;
        if identity.pid == 0 || self.state.given.0 != 0 {
            return Ok(());
        }
        let give = |object| handle::give(object, identity.pid, identity.start);
        let section = give(self.shared.section.handle())?;
        let job = match &self.held.job {
            Some(job) if is_in_job(instance) => give(job.handle())?,
            _ => 0,
        };
        self.state.given = (section, job);
        self.changed = true;
        Ok(())
    }

    /// Takes back the handles that [`give_handles`](Self::give_handles) has given.
    pub(super) fn take_back_handles(&mut self) -> Result<(), OpenFailure> {
        let (section, job) = std::mem::take(&mut self.state.given);
        if let Some(Instance { identity, .. }) = self.state.instance {
            for given in [section, job] {
                handle::take(given, identity.pid, identity.start)?;
            }
        }
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, OpenFailure> {
        Ok(Snapshot {
            clients: self.count()?,
            locked: self.is_locked()?,
            supervised: false,
            tree: false,
            pinned: self.state.pinned,
            generation: self.state.generation,
            claimed: self.state.is_claimed(),
            instance: self.state.instance,
            ended: None,
            announced: decode_limit(self.state.limit_ms),
        })
    }
}

/// Returns `true` if an instance must end with its last client. This is a local process that is not a client
/// itself.
fn is_in_job(instance: &Instance) -> bool {
    instance.identity.pid != 0 && !instance.hosted && !instance.keep_orphan
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
