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

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::{
    Fault, Inspection, Instance, Kernel, Lock, Missing, Object, Snapshot, Step, Supervised,
};
use crate::error::{Error, Result};
use crate::name::{Digest, Namespace, ServiceKey, digest_in_stem};
use crate::process::{self, KILL_TIMEOUT};

mod state;
mod sys;

use state::State;
pub(crate) use sys::try_lock_file;
use sys::{Event, Found, Job, LockFile, Mode, Section};

/// The file that has nothing in it but locks.
const LOCK_FILE: &str = "procref.lock";

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
            let stem = name.to_str().and_then(|name| name.split('.').next());
            let Some(digest) = stem.and_then(digest_in_stem) else {
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
}

/// The digests are what counts. The name of the service is not in it: of some services only the digest is
/// known.
fn section_name(key: &ServiceKey) -> String {
    let (space, name) = key.digests();
    format!(r"Local\procref-{:015x}-{:015x}", space.bits(), name.bits())
}

/// What this process has open, by service. What is held belongs to the process, whichever of its objects
/// has taken it; and handles on one file see each other's locks, also within a process.
fn opened() -> MutexGuard<'static, HashMap<String, Arc<Shared>>> {
    static OPENED: OnceLock<Mutex<HashMap<String, Arc<Shared>>>> = OnceLock::new();
    let opened = OPENED.get_or_init(Mutex::default).lock();
    opened.unwrap_or_else(PoisonError::into_inner)
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

struct Shared {
    service: String,
    /// The section's.
    name: String,
    digests: (u64, u64),
    section: Section,
    locks: LockFile,
    /// For waiting: while a call on a handle waits, others on the same handle do, too.
    waiting: Mutex<LockFile>,
    /// Which life of the object was opened.
    life: u64,
    /// Set when that is over.
    over: Event,
    held: Mutex<Held>,
}

/// What this process holds.
#[derive(Default)]
struct Held {
    references: Vec<Event>,
    /// Held by whoever has a reference or the lock.
    job: Option<Arc<Job>>,
    lock: bool,
}

impl Held {
    fn is_any(&self) -> bool {
        self.lock || !self.references.is_empty()
    }
}

/// The gate, held.
struct Gate<'a> {
    shared: &'a Shared,
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.shared.locks.unlock(self.shared.gate_byte()) {
            tracing::error!(service = self.shared.service, %error, "could not open the gate");
        }
    }
}

/// What a step finds.
struct Inside<'a> {
    shared: &'a Shared,
    held: &'a mut Held,
    state: State,
    changed: bool,
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
    pub(crate) fn bare(&self) -> bare::Set {
        bare::Set(Self(Arc::clone(&self.0)))
    }
}

/// The names that the launch of a service uses on every system.
pub(crate) mod bare {
    use super::*;

    /// An object that is worked on without a future.
    pub(crate) struct Set(pub(super) WindowsObject);

    impl Set {
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

impl Shared {
    /// What this process has open of the service, or opens now.
    fn find(key: &ServiceKey, missing: Missing) -> Result<Option<Arc<Self>>> {
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
        let Some(shared) = Self::open(key, name, missing)? else {
            return Ok(None);
        };
        let shared = Arc::new(shared);
        opened.insert(shared.name.clone(), Arc::clone(&shared));
        Ok(Some(shared))
    }

    fn open(key: &ServiceKey, name: String, missing: Missing) -> Result<Option<Self>> {
        let failed = |found| match found {
            Found::Foreign(reason) => Error::Foreign {
                service: key.name().to_owned(),
                object: name.clone(),
                reason: reason.to_owned(),
            },
            Found::Failed(source) => Error::Kernel {
                service: key.name().to_owned(),
                operation: "open its named objects",
                advice: "see its source for what Windows says".to_owned(),
                source,
            },
        };
        check_counting(key)?;
        let section = match missing {
            Missing::Create => Section::create(&name).map_err(failed)?,
            Missing::Ignore => match Section::open(&name).map_err(failed)? {
                Some(section) => section,
                None => return Ok(None),
            },
        };
        let path = key.namespace.dir().join(LOCK_FILE);
        let open_locks = || LockFile::open(&path).map_err(failed);
        let (locks, waiting) = (open_locks()?, open_locks()?);
        let (space, own) = key.digests();
        let digests = (space.bits(), own.bits());
        let gate = gate_byte(own.bits());
        locks
            .lock(gate, Mode::Exclusive)
            .map_err(|error| failed(Found::Failed(error)))?;
        let state = state::read(&section);
        let life = match state {
            Some(state) => state.life,
            None => {
                let blank = State::blank(first_life());
                state::write(&section, &blank);
                blank.life
            }
        };
        let over = Event::create(&format!("{name}.over.{life:016x}"));
        let unlocked = locks.unlock(gate);
        let over = over.map_err(failed)?;
        unlocked.map_err(|error| failed(Found::Failed(error)))?;
        if state.is_some_and(|state| state.is_claimed() && state.digests != digests) {
            return Err(failed(Found::Foreign(
                "it is of another service, or layout",
            )));
        }
        Ok(Some(Self {
            service: key.name().to_owned(),
            name,
            digests,
            section,
            locks,
            waiting: Mutex::new(waiting),
            life,
            over,
            held: Mutex::default(),
        }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate_byte(&self) -> u64 {
        gate_byte(self.digests.1)
    }

    fn lock_byte(&self) -> u64 {
        self.gate_byte() + 1
    }

    fn object_name(&self, what: &str) -> String {
        format!("{}.{what}.{:016x}", self.name, self.life)
    }

    /// Does a step: all of it is seen by others at once, or none of it.
    fn step<T>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&mut Inside<'_>) -> Result<T, Found>,
    ) -> Step<T> {
        let mut held = self.held();
        self.locks
            .lock(self.gate_byte(), Mode::Exclusive)
            .map_err(|error| self.fault(operation, error.into()))?;
        let gate = Gate { shared: self };
        let Some(state) = state::read(&self.section).filter(|state| state.life == self.life) else {
            self.forget(&mut held);
            return Err(Fault::Removed);
        };
        let mut inside = Inside {
            shared: self,
            held: &mut held,
            state,
            changed: false,
        };
        let done = step(&mut inside).map_err(|found| self.fault(operation, found))?;
        if inside.changed {
            inside.state.changed_at = now();
            state::write(&self.section, &inside.state);
        }
        let held = inside.held;
        if !held.is_any() {
            held.job = None;
        }
        drop(gate);
        Ok(done)
    }

    /// The life is over, and with it what was held in it.
    fn forget(&self, held: &mut Held) {
        if held.lock {
            if let Err(error) = self.locks.unlock(self.lock_byte()) {
                tracing::error!(service = self.service, %error, "could not release the lock");
            }
        }
        *held = Held::default();
    }

    fn fault(&self, operation: &'static str, found: Found) -> Fault {
        Fault::Refused(match found {
            Found::Foreign(reason) => Error::Foreign {
                service: self.service.clone(),
                object: self.name.clone(),
                reason: reason.to_owned(),
            },
            Found::Failed(source) => Error::Kernel {
                service: self.service.clone(),
                operation,
                advice: "see its source for what Windows says".to_owned(),
                source,
            },
        })
    }

    fn publish(&self, instance: Option<&Instance>, generation: u16, lock: Lock) -> Step<()> {
        let Some(instance) = instance else {
            // Before it is cleared, and not under the gate: that may take a moment, and whoever has the
            // transition lock is alone with the service anyway.
            if !self.end_tree(KILL_TIMEOUT)? {
                let error = io::Error::new(
                    io::ErrorKind::TimedOut,
                    "processes that it has started are alive 5 s after they were terminated",
                );
                return Err(self.fault("end the rest of the service", error.into()));
            }
            return self.write_instance("clear the instance", None, generation, lock);
        };
        self.write_instance("publish the instance", Some(instance), generation, lock)
    }

    fn write_instance(
        &self,
        operation: &'static str,
        instance: Option<&Instance>,
        generation: u16,
        lock: Lock,
    ) -> Step<()> {
        self.step(operation, |inside| {
            match instance {
                Some(instance) => inside.keep(instance)?,
                None => inside.state.kept = (0, 0),
            }
            inside.state.instance = instance.copied();
            inside.state.generation = generation;
            inside.changed = true;
            if lock == Lock::Release {
                inside.release_lock()?;
            }
            Ok(())
        })
    }

    /// Ends every process in the job. Outside of the gate.
    fn end_tree(&self, patience: Duration) -> Step<bool> {
        let job = self.held().job.clone();
        let Some(job) = job else {
            return Ok(true);
        };
        job.end_all(patience)
            .map_err(|error| self.fault("end the processes of the service", error.into()))
    }
}

/// Each service has two bytes of the file, far beyond its end, which no service shares with another.
fn gate_byte(name: u64) -> u64 {
    name << 1
}

/// The number of the first life in a new section, which no section of this name has had: an event of an old
/// one may still be open somewhere. Lives end more slowly than nanoseconds pass.
fn first_life() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Once in a process.
fn check_counting(key: &ServiceKey) -> Result<()> {
    static COUNTS: OnceLock<bool> = OnceLock::new();
    let failed = |source| Error::Kernel {
        service: key.name().to_owned(),
        operation: "count the handles on a named object",
        advice: "this version of Windows tells them in another way; please report it".to_owned(),
        source,
    };
    if COUNTS.get().is_none() {
        let counts = sys::counts_handles().map_err(failed)?;
        let _ = COUNTS.set(counts);
    }
    match COUNTS.get() {
        Some(true) => Ok(()),
        _ => Err(failed(io::Error::other(
            "two handles are not counted as two",
        ))),
    }
}

impl Inside<'_> {
    /// The references of all processes.
    fn count(&self) -> Result<u32, Found> {
        if let Some(reference) = self.held.references.first() {
            return Ok(reference.handles()?);
        }
        let Some(peek) = Event::open(&self.shared.object_name("refs"))? else {
            return Ok(0);
        };
        Ok(peek.handles()?.saturating_sub(1))
    }

    /// Whether anybody has the transition lock.
    fn is_locked(&self) -> Result<bool, Found> {
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

    fn take_lock(&mut self) -> Result<bool, Found> {
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
    fn or_unlock<T>(&mut self, done: Result<T, Found>) -> Result<T, Found> {
        if done.is_err() {
            self.release_lock()?;
        }
        done
    }

    fn release_lock(&mut self) -> Result<(), Found> {
        if self.held.lock {
            self.shared.locks.unlock(self.shared.lock_byte())?;
            self.held.lock = false;
        }
        Ok(())
    }

    fn take_reference(&mut self) -> Result<(), Found> {
        let reference = Event::create(&self.shared.object_name("refs"))?;
        if self.held.references.is_empty() {
            self.state_names_us();
        }
        self.held.references.push(reference);
        Ok(())
    }

    fn state_names_us(&self) {
        state::name(&self.shared.section, std::process::id());
    }

    fn give_reference(&mut self) {
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
    fn have_job(&mut self) -> Result<(), Found> {
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
    fn keep(&mut self, instance: &Instance) -> Result<(), Found> {
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
    fn give_handles(&mut self, instance: &Instance) -> Result<(), Found> {
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
    fn take_handles(&mut self) -> Result<(), Found> {
        let (section, job) = std::mem::take(&mut self.state.kept);
        if let Some(instance) = self.state.instance {
            for handle in [section, job] {
                sys::take(handle, instance.identity)?;
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, Found> {
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
        })
    }
}

/// Whether an instance is to end with its last client: a local process that is no client itself.
fn is_in_job(instance: &Instance) -> bool {
    instance.identity.pid != 0 && !instance.hosted && !instance.keep_orphan
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
                return Err(Found::Failed(error));
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
