//! What this process has open of a service, and how a step is done on it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::section_name;
use super::state::{self, State};
use super::step::Inside;
use super::sys::{self, Event, Job, LockFile, Mode, OpenFailure, Section};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Instance, Lock, Missing, Step, encode_limit};
use crate::key::ServiceKey;
use crate::process::KILL_TIMEOUT;

/// The file that has nothing in it but locks.
const LOCK_FILE: &str = "procref.lock";

/// What this process has open, by service. What is held belongs to the process, whichever of its objects
/// has taken it; and handles on one file see each other's locks, also within a process.
pub(super) fn opened() -> MutexGuard<'static, HashMap<String, Arc<Shared>>> {
    static OPENED: OnceLock<Mutex<HashMap<String, Arc<Shared>>>> = OnceLock::new();
    let opened = OPENED.get_or_init(Mutex::default).lock();
    opened.unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Shared {
    pub(super) service: String,
    /// The section's.
    pub(super) name: String,
    pub(super) digests: (u64, u64),
    pub(super) section: Section,
    pub(super) locks: LockFile,
    /// For waiting: while a call on a handle waits, others on the same handle do, too.
    pub(super) waiting: Mutex<LockFile>,
    /// Which life of the object was opened.
    pub(super) life: u64,
    /// Set when that is over.
    pub(super) over: Event,
    pub(super) held: Mutex<HeldObjects>,
}

/// What this process holds.
#[derive(Default)]
pub(super) struct HeldObjects {
    pub(super) references: Vec<Event>,
    /// Held by whoever has a reference or the lock.
    pub(super) job: Option<Arc<Job>>,
    pub(super) lock: bool,
}

impl HeldObjects {
    pub(super) fn is_any(&self) -> bool {
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

impl Shared {
    /// What this process has open of the service, or opens now.
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
        let Some(shared) = Self::open(key, name, missing)? else {
            return Ok(None);
        };
        let shared = Arc::new(shared);
        opened.insert(shared.name.clone(), Arc::clone(&shared));
        Ok(Some(shared))
    }

    pub(super) fn open(key: &ServiceKey, name: String, missing: Missing) -> Result<Option<Self>> {
        let failed = |found| match found {
            OpenFailure::Foreign(reason) => Error::Foreign {
                service: key.name().to_owned(),
                object: name.clone(),
                reason: reason.to_owned(),
            },
            OpenFailure::Failed(source) => Error::Kernel {
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
            .map_err(|error| failed(OpenFailure::Failed(error)))?;
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
        unlocked.map_err(|error| failed(OpenFailure::Failed(error)))?;
        if state.is_some_and(|state| state.is_claimed() && state.digests != digests) {
            return Err(failed(OpenFailure::Foreign(
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

    pub(super) fn held(&self) -> MutexGuard<'_, HeldObjects> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gate_byte(&self) -> u64 {
        gate_byte(self.digests.1)
    }

    pub(super) fn lock_byte(&self) -> u64 {
        self.gate_byte() + 1
    }

    pub(super) fn object_name(&self, what: &str) -> String {
        format!("{}.{what}.{:016x}", self.name, self.life)
    }

    /// Does a step: all of it is seen by others at once, or none of it.
    pub(super) fn step<T>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&mut Inside<'_>) -> Result<T, OpenFailure>,
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
    pub(super) fn forget(&self, held: &mut HeldObjects) {
        if held.lock {
            if let Err(error) = self.locks.unlock(self.lock_byte()) {
                tracing::error!(service = self.service, %error, "could not release the lock");
            }
        }
        *held = HeldObjects::default();
    }

    pub(super) fn fault(&self, operation: &'static str, found: OpenFailure) -> Fault {
        Fault::Refused(match found {
            OpenFailure::Foreign(reason) => Error::Foreign {
                service: self.service.clone(),
                object: self.name.clone(),
                reason: reason.to_owned(),
            },
            OpenFailure::Failed(source) => Error::Kernel {
                service: self.service.clone(),
                operation,
                advice: "see its source for what Windows says".to_owned(),
                source,
            },
        })
    }

    pub(super) fn publish(
        &self,
        instance: Option<&Instance>,
        generation: u16,
        lock: Lock,
    ) -> Step<()> {
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
        self.step(operation, |inside| {
            if let Some(limit) = limit {
                inside.state.limit_ms = encode_limit(limit);
            }
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
    pub(super) fn end_tree(&self, patience: Duration) -> Step<bool> {
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
