//! What a step finds behind the gate, and what it does there.

use std::sync::Arc;

use super::object::{HeldObjects, Shared};
use super::state::{self, State};
use super::sys::{self, Event, Job, Mode, OpenFailure};
use crate::kernel::{Instance, Snapshot, decode_limit};

/// What a step finds.
pub(super) struct Inside<'a> {
    pub(super) shared: &'a Shared,
    pub(super) held: &'a mut HeldObjects,
    pub(super) state: State,
    pub(super) changed: bool,
}

impl Inside<'_> {
    /// The references of all processes.
    pub(super) fn count(&self) -> Result<u32, OpenFailure> {
        if let Some(reference) = self.held.references.first() {
            return Ok(reference.handles()?);
        }
        let Some(peek) = Event::open(&self.shared.object_name("refs"))? else {
            return Ok(0);
        };
        Ok(peek.handles()?.saturating_sub(1))
    }

    /// Whether anybody has the transition lock.
    pub(super) fn is_locked(&self) -> Result<bool, OpenFailure> {
        if self.held.lock {
            return Ok(true);
        }
        let byte = self.shared.lock_byte();
        // Shared, as those who wait for it have it for a moment each.
        if self.shared.locks.try_lock(byte, Mode::Shared)? {
            self.shared.locks.unlock(byte)?;
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn take_lock(&mut self) -> Result<bool, OpenFailure> {
        let (locks, byte) = (&self.shared.locks, self.shared.lock_byte());
        loop {
            if self.is_locked()? {
                return Ok(false);
            }
            if locks.try_lock(byte, Mode::Exclusive)? {
                break;
            }
            // Those who waited for it have just woken, and are about to let go. Nobody else can take it:
            // for that one needs the gate.
            std::thread::yield_now();
        }
        self.held.lock = true;
        self.state.lock_holder = std::process::id();
        self.changed = true;
        let done = self.have_job();
        self.or_unlock(done)?;
        Ok(true)
    }

    /// Of a step that cannot be done whole nothing is.
    pub(super) fn or_unlock<T>(&mut self, done: Result<T, OpenFailure>) -> Result<T, OpenFailure> {
        if done.is_err() {
            self.release_lock()?;
        }
        done
    }

    pub(super) fn release_lock(&mut self) -> Result<(), OpenFailure> {
        if self.held.lock {
            self.shared.locks.unlock(self.shared.lock_byte())?;
            self.held.lock = false;
        }
        Ok(())
    }

    pub(super) fn take_reference(&mut self) -> Result<(), OpenFailure> {
        let reference = Event::create(&self.shared.object_name("refs"))?;
        if self.held.references.is_empty() {
            self.state_names_us();
        }
        self.held.references.push(reference);
        Ok(())
    }

    pub(super) fn state_names_us(&self) {
        state::name(&self.shared.section, std::process::id());
    }

    pub(super) fn give_reference(&mut self) {
        self.held.references.pop();
        if self.held.references.is_empty() {
            state::unname(&self.shared.section, std::process::id());
        }
    }

    /// Opens the job, or makes it.
    ///
    /// One that had to be made tells that the last client is gone, and that the kernel ends the instance,
    /// if it has not done so yet: a process that is about to end can look alive for a moment. So nobody may
    /// use it any more, and whoever has the lock sees it to its end.
    pub(super) fn have_job(&mut self) -> Result<(), OpenFailure> {
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

    /// Sees to it that an instance ends with its last client, or, where it is not to, that what is written
    /// stays as long as it lives.
    pub(super) fn keep(&mut self, instance: &Instance) -> Result<(), OpenFailure> {
        if is_in_job(instance) {
            self.have_job()?;
            if let Some(job) = &self.held.job {
                job.assign(instance.identity)?;
            }
        }
        let is_new = self
            .state
            .instance
            .is_none_or(|before| before.identity != instance.identity);
        if is_new {
            self.state.kept = (0, 0);
            if self.state.pinned || instance.keep_orphan {
                self.give_handles(instance)?;
            }
        }
        Ok(())
    }

    /// Gives a process that is to be there without clients the handles that keep it, and what is written
    /// of it: nobody else is sure to have any when the last client is gone. They end with it.
    pub(super) fn give_handles(&mut self, instance: &Instance) -> Result<(), OpenFailure> {
        if instance.identity.pid == 0 || self.state.kept.0 != 0 {
            return Ok(());
        }
        let section = sys::give(self.shared.section.handle(), instance.identity)?;
        let job = match &self.held.job {
            Some(job) if is_in_job(instance) => sys::give(job.handle(), instance.identity)?,
            _ => 0,
        };
        self.state.kept = (section, job);
        self.changed = true;
        Ok(())
    }

    /// Takes them back.
    pub(super) fn take_handles(&mut self) -> Result<(), OpenFailure> {
        let (section, job) = std::mem::take(&mut self.state.kept);
        if let Some(instance) = self.state.instance {
            for handle in [section, job] {
                sys::take(handle, instance.identity)?;
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

/// Whether an instance is to end with its last client: a local process that is no client itself.
fn is_in_job(instance: &Instance) -> bool {
    instance.identity.pid != 0 && !instance.hosted && !instance.keep_orphan
}
