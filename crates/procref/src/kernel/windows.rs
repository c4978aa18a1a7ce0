//! The Windows kernel: named objects, which exist as long as a process has a handle on them.
//!
//! Windows closes the handles of a process that dies. It does not restore the value of a semaphore. So each
//! reference or lock that must end with a process is a handle:
//!
//! | part of the object | implementation |
//! |---|---|
//! | a reference | a handle on a named event, whose handles the kernel counts |
//! | the transition lock | a lock on one byte of a file, which belongs to the handle that took it |
//! | the service ends with its last client | a job object, which ends its processes with its last handle |
//! | the instance, and all other data | a section: memory that exists as long as any client has it open |
//!
//! # One step at a time
//!
//! A step reads and changes several of these objects. So every step holds the *step lock*, a lock on another
//! byte, for some microseconds. If the process dies in a step, Windows releases the step lock. The changed
//! handles end with the process. The section changes completely or not at all: see [`state`].
//!
//! Counting without the step lock was rejected. A process that opens the event to count its handles adds one
//! handle. If the last client counted at that moment, it would treat this handle as another client.
//!
//! # Incarnations
//!
//! A named object exists as long as any process has it open, so no process can remove it. Instead the section counts
//! incarnations. [`remove`](Object::remove) starts a blank one, and a process that opened an earlier incarnation gets
//! [`Fault::Removed`]. The names of event and job contain the number of the incarnation, so that leftover handles of an
//! earlier one are not counted.

use std::fs;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use procref_supervisor::state::encode_limit;
use procref_winsys::OpenFailure;
use procref_winsys::job::Job;
use procref_winsys::lock_file::LockMode;
use procref_winsys::process::open_created;
use procref_winsys::section::Section;
use windows_sys::Win32::System::Threading::PROCESS_QUERY_INFORMATION;

use super::{
    Fault, Inspection, Instance, Kernel, Lock, Missing, Object, Snapshot, Step, Supervised,
};
use crate::error::{Error, Result};
use crate::key::{ServiceKey, digest_in_name};
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

mod native_set;
mod object;
mod shared;
mod state;
mod step;

pub(crate) use native_set::NativeSet;
use object::opened;
use shared::{Shared, section_name};
use state::ObjectState;

/// The highest number of clients. The kernel's limit is 16 million handles per process, but memory runs out before that.
const MAX_CLIENTS: u32 = 1 << 20;

/// The kernel that this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Windows;

impl Kernel for Windows {
    type Object = WindowsObject;

    /// The job ends the service when its last handle is closed.
    const NEEDS_SUPERVISOR: bool = false;

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<WindowsObject>> {
        WindowsObject::open(key, missing)
    }

    /// Returns the services that have a file in the directory. Windows has no documented list of named objects.
    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>> {
        let dir = namespace.dir();
        let failed = |error| Error::runtime_dir_io(dir, "could not list it", error);
        let mut digests = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(digest) = name
                .to_str()
                .and_then(|name| digest_in_name(name, namespace))
            else {
                continue;
            };
            let key = ServiceKey::unnamed(namespace.clone(), digest);
            if !digests.contains(&digest)
                && Section::open(&section_name(&key)).is_ok_and(|it| it.is_some())
            {
                digests.push(digest);
            }
        }
        Ok(digests)
    }

    fn object_name(key: &ServiceKey) -> String {
        section_name(key)
    }

    /// Sends stop requests to windows. Every process in the service's job belongs to the service. This
    /// process has opened the job, because it holds the transition lock.
    fn request_tree_stop(service: Identity) -> bool {
        let opened_service = open_created(service.pid, service.start, PROCESS_QUERY_INFORMATION);
        let Ok(Some(process)) = opened_service else {
            return false;
        };
        let jobs: Vec<Arc<Job>> = opened()
            .values()
            .filter_map(|it| it.held().job.clone())
            .collect();
        let has = |job: &Job, process: &OwnedHandle| job.has(process).unwrap_or(false);
        let Some(job) = jobs.iter().find(|job| has(job, &process)) else {
            return false;
        };
        process::close_windows(|_, owner| has(job, owner))
    }
}

/// The open object of a service.
pub(crate) struct WindowsObject(Arc<Shared>);

impl Drop for WindowsObject {
    fn drop(&mut self) {
        let mut opened = opened();
        // Two references remain: this one and that of the map. If there are more, another part of this
        // process uses the object.
        if Arc::strong_count(&self.0) > 2 || self.0.held().is_any() {
            return;
        }
        let known = opened.get(&self.0.name);
        if known.is_some_and(|known| Arc::ptr_eq(known, &self.0)) {
            opened.remove(&self.0.name);
        }
    }
}

impl WindowsObject {
    fn open(key: &ServiceKey, missing: Missing) -> Result<Option<Self>> {
        let Some(shared) = Shared::find(key, missing)? else {
            return Ok(None);
        };
        let object = Self(shared);
        if missing == Missing::Create {
            return Ok(Some(object));
        }
        // A blank object that no client holds counts as missing.
        let exists = object.0.step("read the object", |step| {
            Ok(step.state.is_claimed() || step.count()? > 0 || step.is_locked()?)
        });
        match exists {
            Ok(exists) => Ok(exists.then_some(object)),
            Err(Fault::Removed) => Ok(None),
            Err(Fault::Refused(error)) => Err(error),
        }
    }

    /// Returns the object for the thread that launches a service.
    pub(crate) fn signal_safe(&self) -> NativeSet {
        NativeSet::new(Self(Arc::clone(&self.0)))
    }
}

impl Object for WindowsObject {
    type Rejoin = ();

    async fn snapshot(&self) -> Step<Snapshot> {
        self.0.step("read the object", |step| step.snapshot())
    }

    async fn join(&self, supervised: Supervised) -> Step<bool> {
        if supervised == Supervised::Yes {
            return Ok(false);
        }
        self.0.step("join the service", |step| {
            let count = step.count()?;
            if count == 0 || count >= MAX_CLIENTS || step.is_locked()? {
                return Ok(false);
            }
            if step.held.job.is_none() {
                // If there is no job, the counted clients are exiting, and the kernel terminates the instance
                // with them.
                let Some(job) = Job::open(&step.shared.object_name("job"))? else {
                    return Ok(false);
                };
                step.held.job = Some(Arc::new(job));
            }
            step.take_reference()?;
            Ok(true)
        })
    }

    async fn wait_unlocked(&self) -> Step<()> {
        let operation = "wait for another process's transition";
        let shared = &self.0;
        if shared.held().lock {
            // This process holds the lock itself. Other threads of it retry.
            std::thread::yield_now();
            return shared.step(operation, |_| Ok(()));
        }
        {
            let wait_locks = shared
                .wait_locks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let byte = shared.transition_byte();
            let waited = wait_locks
                .lock(byte, LockMode::Shared)
                .and_then(|()| wait_locks.unlock(byte));
            waited.map_err(|error| shared.fault(operation, error.into()))?;
        }
        // A process that removes the object releases the lock afterwards.
        shared.step(operation, |_| Ok(()))
    }

    async fn try_enter(&self) -> Step<bool> {
        self.0.step("take the lock and a reference", |step| {
            if !step.take_lock()? {
                return Ok(false);
            }
            let done = step.take_reference();
            step.or_unlock(done)?;
            Ok(true)
        })
    }

    async fn try_lock(&self) -> Step<bool> {
        self.0.step("take the lock", |step| step.take_lock())
    }

    async fn claim(&self) -> Step<()> {
        self.0.step("claim the object", |step| {
            step.state.digests = step.shared.digests;
            step.changed = true;
            Ok(())
        })
    }

    async fn announce(&self, limit: Duration) -> Step<()> {
        self.0.step("announce the transition", |step| {
            step.state.digests = step.shared.digests;
            step.state.limit_ms = encode_limit(limit);
            step.changed = true;
            Ok(())
        })
    }

    async fn publish_stopping(
        &self,
        instance: &Instance,
        generation: u16,
        limit: Duration,
    ) -> Step<()> {
        let stopping = Instance {
            stopping: true,
            ..*instance
        };
        let written = (Some(&stopping), generation);
        self.0
            .write_instance("publish the instance", written, Some(limit), Lock::Keep)
    }

    async fn publish(&self, instance: Option<&Instance>, generation: u16, lock: Lock) -> Step<()> {
        self.0.publish(instance, generation, lock)
    }

    async fn unlock(&self) -> Step<()> {
        self.0.step("release the lock", |step| step.release_lock())
    }

    async fn unlock_to_supervisor(&self) -> Step<bool> {
        self.0
            .step("leave the lock to the supervisor", |_| Ok(false))
    }

    async fn abandon(&self) -> Step<bool> {
        self.0.step("release the lock and the reference", |step| {
            if step.held.references.is_empty() || step.count()? < 2 {
                return Ok(false);
            }
            step.release_reference();
            step.release_lock()?;
            Ok(true)
        })
    }

    async fn leave(&self) -> Step<bool> {
        self.0.step("leave the service", |step| {
            if step.held.references.is_empty() || step.count()? < 2 {
                return Ok(false);
            }
            step.release_reference();
            Ok(true)
        })
    }

    async fn leave_last(&self) -> Step<bool> {
        self.0.step("leave the service as the last client", |step| {
            let holds_one = step.held.references.len() == 1;
            if !holds_one || step.count()? != 1 || step.state.pinned || !step.take_lock()? {
                return Ok(false);
            }
            step.release_reference();
            Ok(true)
        })
    }

    async fn leave_to_supervisor(&self) -> Step<bool> {
        self.0
            .step("leave the service to its supervisor", |_| Ok(false))
    }

    async fn leave_pinned(&self) -> Step<bool> {
        self.0.step("leave the pinned service", |step| {
            if step.held.references.is_empty() || !step.state.pinned {
                return Ok(false);
            }
            step.release_reference();
            Ok(true)
        })
    }

    async fn pin(&self) -> Step<()> {
        self.0.step("pin the service", |step| {
            let Some(instance) = step.state.instance.filter(|it| it.identity.pid != 0) else {
                let reason = "the service has no process on this machine, and without clients only such a \
                              process keeps the object";
                let error = io::Error::new(io::ErrorKind::Unsupported, reason);
                return Err(OpenFailure::Failed(error));
            };
            step.give_handles(&instance)?;
            step.changed = true;
            step.state.pinned = true;
            Ok(())
        })
    }

    async fn unpin(&self) -> Step<bool> {
        self.0.step("unpin the service", |step| {
            if !step.state.pinned {
                return Ok(false);
            }
            if step.state.instance.is_some_and(|it| !it.keep_orphan) {
                step.take_back_handles()?;
            }
            step.changed = true;
            step.state.pinned = false;
            Ok(true)
        })
    }

    async fn drop_reference(&self) -> Step<()> {
        self.0.step("release the reference", |step| {
            step.release_reference();
            Ok(())
        })
    }

    async fn recount(&self, from: u32, to: u32, unlocked: bool) -> Step<bool> {
        self.0.step("change the count", |step| {
            if step.count()? != from || unlocked && step.is_locked()? {
                return Ok(false);
            }
            let fewer = from.saturating_sub(to) as usize;
            if step.held.references.len() < fewer {
                return Ok(false);
            }
            for _ in 0..fewer {
                step.release_reference();
            }
            for _ in from..to {
                step.open_job()?;
                step.take_reference()?;
            }
            Ok(true)
        })
    }

    async fn remove(&self) -> Step<()> {
        let shared = &self.0;
        shared.step("remove the object", |step| {
            // This ends the incarnation. The next process that opens the object uses the new one.
            let next = ObjectState::blank(step.state.incarnation.wrapping_add(1));
            state::write(&shared.section, &next);
            shared.removed.set()?;
            shared.forget(step.held);
            Ok(())
        })
    }

    async fn wait_removed(&self) -> Step<()> {
        let operation = "wait for the removal of the object";
        let shared = &self.0;
        loop {
            shared.step(operation, |_| Ok(()))?;
            shared
                .removed
                .wait()
                .map_err(|error| shared.fault(operation, error.into()))?;
        }
    }

    async fn lock_holder(&self) -> Step<Option<u32>> {
        self.0.step("read the lock's holder", |step| {
            let pid = step.state.lock_holder;
            Ok((pid != 0).then_some(pid))
        })
    }

    async fn inspect(&self) -> Step<Inspection> {
        self.0.step("read the object", |step| {
            let snapshot = step.snapshot()?;
            let mut holders = state::holders(&step.shared.section);
            holders.retain(|&(pid, start)| process::is_identity_alive(Identity { pid, start }));
            let holders: Vec<u32> = holders.into_iter().map(|(pid, _)| pid).collect();
            Ok(Inspection {
                unnamed: snapshot.clients.saturating_sub(holders.len() as u32),
                holders,
                supervisor: None,
                transition: (snapshot.locked && step.state.lock_holder != 0)
                    .then_some(step.state.lock_holder),
                changed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(step.state.changed_at),
                snapshot,
            })
        })
    }
}
