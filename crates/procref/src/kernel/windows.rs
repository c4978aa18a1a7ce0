//! Windows: named objects, which live as long as somebody has a handle on them.
//!
//! A semaphore's value is not given back by a process that dies; its handles are closed. So everything that
//! is to end with a process is a handle:
//!
//! | what | is |
//! |---|---|
//! | a reference | a handle on a named event, of which the kernel counts the handles |
//! | the transition lock | a lock on one byte of a file, which belongs to the handle it was taken by |
//! | the end of the service with its last client | a job object: it ends what is in it with its last handle |
//! | the instance, and what else is written | a section: memory that is there as long as any client is |
//!
//! # One step at a time
//!
//! A step looks at several of these and changes several. So every step begins by taking the *gate*, a lock
//! on another byte, and gives it back at its end, some microseconds later. Who dies in between gives it
//! back, too. What was changed until then are handles, which are gone with it, and the section, which
//! changes as a whole or not at all: see [`state`].
//!
//! Counting without the gate was rejected: whoever opens the event to count its handles adds one, and a
//! leaver that looks just then would take itself not to be the last.
//!
//! # Lives
//!
//! A named object is there as long as anybody has it open, so it cannot be removed from others. Instead
//! the section counts lives: [`remove`](Object::remove) begins a new one, blank, and whoever opened the
//! object before finds that his life is over ([`Fault::Removed`]). The names of event and job have the
//! number of the life in them, so what is left of an old one is never counted in the new.

use std::fs;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use windows_sys::Win32::System::Threading::PROCESS_QUERY_INFORMATION;

use super::{
    Fault, Inspection, Instance, Kernel, Lock, Missing, Object, Snapshot, Step, Supervised,
    encode_limit,
};
use crate::error::{Error, Result};
use crate::key::{ServiceKey, digest_in_name};
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

mod object;
mod state;
mod step;
mod sys;

use object::{Shared, opened};
use state::State;
pub(crate) use sys::try_lock_file;
use sys::{Job, Mode, OpenFailure, Section};

/// More handles than this nobody holds. Where the kernel's own limit is, 16 million per process, memory is
/// over long before.
const MOST_CLIENTS: u32 = 1 << 20;

/// The kernel this code runs on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Windows;

impl Kernel for Windows {
    type Object = WindowsObject;

    /// The job ends the service, with the last handle on it.
    const NEEDS_SUPERVISOR: bool = false;

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<WindowsObject>> {
        WindowsObject::open(key, missing)
    }

    /// Those that have a file in the directory: Windows has no list of named objects that is documented.
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

    /// By their windows. What is in the service's job is the service's; this process has the job open, because
    /// it has the transition lock.
    fn ask_tree(service: Identity) -> bool {
        let Ok(Some(process)) = process::open_identity(service, PROCESS_QUERY_INFORMATION) else {
            return false;
        };
        let jobs: Vec<Arc<Job>> = opened()
            .values()
            .filter_map(|it| it.held().job.clone())
            .collect();
        let holds = |job: &Job, process: &OwnedHandle| job.has(process).unwrap_or(false);
        let Some(job) = jobs.iter().find(|job| holds(job, &process)) else {
            return false;
        };
        process::ask_windows(|_, owner| holds(job, owner))
    }
}

/// The digests are what counts. The name of the service is not in it: of some services only the digest is
/// known.
fn section_name(key: &ServiceKey) -> String {
    let (space, name) = key.digests();
    format!(r"Local\procref-{:015x}-{:015x}", space.bits(), name.bits())
}

/// A service's object, opened.
pub(crate) struct WindowsObject(Arc<Shared>);

impl Drop for WindowsObject {
    fn drop(&mut self) {
        let mut opened = opened();
        // This one's and the map's: nobody else in this process uses it.
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
        // One that is blank, and that nobody holds, is none.
        let exists = object.0.step("look at the object", |inside| {
            Ok(inside.state.is_claimed() || inside.count()? > 0 || inside.is_locked()?)
        });
        match exists {
            Ok(exists) => Ok(exists.then_some(object)),
            Err(Fault::Removed) => Ok(None),
            Err(Fault::Refused(error)) => Err(error),
        }
    }

    /// The object for a thread that launches a service.
    pub(crate) fn signal_safe(&self) -> signal_safe::NativeSet {
        signal_safe::NativeSet(Self(Arc::clone(&self.0)))
    }
}

/// The names that the launch of a service uses on every system.
pub(crate) mod signal_safe {
    use super::*;

    /// An object that is worked on without a future.
    pub(crate) struct NativeSet(pub(super) WindowsObject);

    impl NativeSet {
        /// Ends what an older instance has left. False if it is still there after `patience`.
        pub(crate) fn end_tree(&self, patience: Duration) -> Step<bool> {
            self.0.0.end_tree(patience)
        }

        /// Does something with the job, which whoever has the lock has.
        pub(crate) fn with_job<T>(&self, work: impl FnOnce(&OwnedHandle) -> T) -> Step<T> {
            let job = self.0.0.held().job.clone();
            job.map(|job| work(job.handle())).ok_or(Fault::Removed)
        }

        /// Puts a process that does not run yet into the job, and publishes it.
        pub(crate) fn admit(&self, instance: &Instance, generation: u16) -> Step<()> {
            self.0.0.publish(Some(instance), generation, Lock::Keep)
        }
    }
}

impl Object for WindowsObject {
    async fn snapshot(&self) -> Step<Snapshot> {
        self.0
            .step("look at the object", |inside| inside.snapshot())
    }

    async fn join(&self, supervised: Supervised) -> Step<bool> {
        if supervised == Supervised::Yes {
            return Ok(false);
        }
        self.0.step("join the service", |inside| {
            let count = inside.count()?;
            if count == 0 || count >= MOST_CLIENTS || inside.is_locked()? {
                return Ok(false);
            }
            if inside.held.job.is_none() {
                // Where there is none, those who are counted are about to end, and the instance with them.
                let Some(job) = Job::open(&inside.shared.object_name("job"))? else {
                    return Ok(false);
                };
                inside.held.job = Some(Arc::new(job));
            }
            inside.take_reference()?;
            Ok(true)
        })
    }

    async fn wait_unlocked(&self) -> Step<()> {
        let operation = "wait for another process's transition";
        let shared = &self.0;
        if shared.held().lock {
            // Nobody waits for himself but by mistake. The others of this process look again.
            std::thread::yield_now();
            return shared.step(operation, |_| Ok(()));
        }
        {
            let waiting = shared
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let byte = shared.lock_byte();
            let waited = waiting
                .lock(byte, Mode::Shared)
                .and_then(|()| waiting.unlock(byte));
            waited.map_err(|error| shared.fault(operation, error.into()))?;
        }
        // Whoever removed the object let go of the lock afterwards.
        shared.step(operation, |_| Ok(()))
    }

    async fn try_enter(&self) -> Step<bool> {
        self.0.step("take the lock and a reference", |inside| {
            if !inside.take_lock()? {
                return Ok(false);
            }
            let done = inside.take_reference();
            inside.or_unlock(done)?;
            Ok(true)
        })
    }

    async fn try_lock(&self) -> Step<bool> {
        self.0.step("take the lock", |inside| inside.take_lock())
    }

    async fn claim(&self) -> Step<()> {
        self.0.step("claim the object", |inside| {
            inside.state.digests = inside.shared.digests;
            inside.changed = true;
            Ok(())
        })
    }

    async fn announce(&self, limit: Duration) -> Step<()> {
        self.0.step("announce the transition", |inside| {
            inside.state.digests = inside.shared.digests;
            inside.state.limit_ms = encode_limit(limit);
            inside.changed = true;
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
        self.0
            .step("release the lock", |inside| inside.release_lock())
    }

    async fn unlock_to_supervisor(&self) -> Step<bool> {
        self.0
            .step("leave the lock to the supervisor", |_| Ok(false))
    }

    async fn abandon(&self) -> Step<bool> {
        self.0
            .step("give back the lock and the reference", |inside| {
                if inside.held.references.is_empty() || inside.count()? < 2 {
                    return Ok(false);
                }
                inside.give_reference();
                inside.release_lock()?;
                Ok(true)
            })
    }

    async fn leave(&self) -> Step<bool> {
        self.0.step("leave the service", |inside| {
            if inside.held.references.is_empty() || inside.count()? < 2 {
                return Ok(false);
            }
            inside.give_reference();
            Ok(true)
        })
    }

    async fn leave_last(&self) -> Step<bool> {
        self.0.step("leave the service as the last", |inside| {
            let ours = inside.held.references.len() == 1;
            if !ours || inside.count()? != 1 || inside.state.pinned || !inside.take_lock()? {
                return Ok(false);
            }
            inside.give_reference();
            Ok(true)
        })
    }

    async fn leave_to_supervisor(&self) -> Step<bool> {
        self.0
            .step("leave the service to its supervisor", |_| Ok(false))
    }

    async fn leave_pinned(&self) -> Step<bool> {
        self.0.step("leave the pinned service", |inside| {
            if inside.held.references.is_empty() || !inside.state.pinned {
                return Ok(false);
            }
            inside.give_reference();
            Ok(true)
        })
    }

    async fn pin(&self) -> Step<()> {
        self.0.step("pin the service", |inside| {
            let Some(instance) = inside.state.instance.filter(|it| it.identity.pid != 0) else {
                let reason = "it has no process of this machine, which alone could keep what is \
                              known of it when there is no client";
                let error = io::Error::new(io::ErrorKind::Unsupported, reason);
                return Err(OpenFailure::Failed(error));
            };
            inside.give_handles(&instance)?;
            inside.changed = true;
            inside.state.pinned = true;
            Ok(())
        })
    }

    async fn unpin(&self) -> Step<bool> {
        self.0.step("unpin the service", |inside| {
            if !inside.state.pinned {
                return Ok(false);
            }
            if inside.state.instance.is_some_and(|it| !it.keep_orphan) {
                inside.take_handles()?;
            }
            inside.changed = true;
            inside.state.pinned = false;
            Ok(true)
        })
    }

    async fn drop_reference(&self) -> Step<()> {
        self.0.step("give back the reference", |inside| {
            inside.give_reference();
            Ok(())
        })
    }

    async fn recount(&self, from: u32, to: u32, unlocked: bool) -> Step<bool> {
        self.0.step("count", |inside| {
            if inside.count()? != from || unlocked && inside.is_locked()? {
                return Ok(false);
            }
            let fewer = from.saturating_sub(to) as usize;
            if inside.held.references.len() < fewer {
                return Ok(false);
            }
            for _ in 0..fewer {
                inside.give_reference();
            }
            for _ in from..to {
                inside.have_job()?;
                inside.take_reference()?;
            }
            Ok(true)
        })
    }

    async fn remove(&self) -> Step<()> {
        let shared = &self.0;
        shared.step("remove the object", |inside| {
            // The last thing that is done in this life: whoever comes now begins the next.
            let next = State::blank(inside.state.life.wrapping_add(1));
            state::write(&shared.section, &next);
            shared.over.set()?;
            shared.forget(inside.held);
            Ok(())
        })
    }

    async fn wait_removed(&self) -> Step<()> {
        let operation = "wait for the removal of the object";
        let shared = &self.0;
        loop {
            shared.step(operation, |_| Ok(()))?;
            shared
                .over
                .wait()
                .map_err(|error| shared.fault(operation, error.into()))?;
        }
    }

    async fn lock_holder(&self) -> Step<Option<u32>> {
        self.0.step("ask who has the lock", |inside| {
            let pid = inside.state.lock_holder;
            Ok((pid != 0).then_some(pid))
        })
    }

    async fn inspect(&self) -> Step<Inspection> {
        self.0.step("look at the object", |inside| {
            let snapshot = inside.snapshot()?;
            let mut holders = state::named(&inside.shared.section);
            holders.retain(|&(pid, start)| process::Identity { pid, start }.is_alive());
            let holders: Vec<u32> = holders.into_iter().map(|(pid, _)| pid).collect();
            Ok(Inspection {
                unnamed: snapshot.clients.saturating_sub(holders.len() as u32),
                holders,
                supervisor: None,
                transition: (snapshot.locked && inside.state.lock_holder != 0)
                    .then_some(inside.state.lock_holder),
                changed_at: SystemTime::UNIX_EPOCH + Duration::from_secs(inside.state.changed_at),
                snapshot,
            })
        })
    }
}
