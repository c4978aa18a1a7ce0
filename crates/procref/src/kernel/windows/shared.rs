//! The objects of one service that this process has open.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use procref_winsys::OpenFailure;
use procref_winsys::event::Event;
use procref_winsys::job::Job;
use procref_winsys::lock_file::{LockFile, LockMode};
use procref_winsys::section::Section;

use super::state::{self, ObjectState};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Missing};
use crate::key::ServiceKey;

/// The file whose bytes are locked. It is always empty.
const LOCK_FILE: &str = "procref.lock";

/// Advice for errors that Windows itself explains.
const ADVICE: &str = "see its source for the error of Windows";

/// The name of a service's section.
///
/// The digests identify the service. The service's name is not part of the section's name, because for some
/// services only the digest is known.
pub(super) fn section_name(key: &ServiceKey) -> String {
    let (namespace, name) = key.digests();
    format!(
        r"Local\procref-{:015x}-{:015x}",
        namespace.bits(),
        name.bits()
    )
}

/// The objects of one incarnation of a service.
pub(super) struct Shared {
    pub(super) service: String,
    /// The name of the section.
    pub(super) name: String,
    pub(super) digests: (u64, u64),
    pub(super) section: Section,
    pub(super) locks: LockFile,
    /// A second handle for waiting. A call that waits on a handle blocks all other calls on that handle.
    pub(super) wait_locks: Mutex<LockFile>,
    pub(super) incarnation: u64,
    /// An event that is set when the incarnation is removed.
    pub(super) removed: Event,
    pub(super) held: Mutex<HeldObjects>,
}

/// The references and locks that this process holds.
#[derive(Default)]
pub(super) struct HeldObjects {
    pub(super) references: Vec<Event>,
    /// The job, open as long as this process holds a reference or the lock.
    pub(super) job: Option<Arc<Job>>,
    pub(super) lock: bool,
}

impl HeldObjects {
    pub(super) fn is_any(&self) -> bool {
        self.lock || !self.references.is_empty()
    }
}

impl Shared {
    pub(super) fn open(key: &ServiceKey, name: String, missing: Missing) -> Result<Option<Self>> {
        let failed = |failure| match failure {
            OpenFailure::Foreign(reason) => Error::Foreign {
                service: key.name().to_owned(),
                object: name.clone(),
                reason: reason.to_owned(),
            },
            OpenFailure::Failed(source) => Error::Kernel {
                service: key.name().to_owned(),
                operation: "open its named objects",
                advice: ADVICE.to_owned(),
                source,
            },
        };
        let section = match missing {
            Missing::Create => Section::create(&name).map_err(failed)?,
            Missing::Ignore => match Section::open(&name).map_err(failed)? {
                Some(section) => section,
                None => return Ok(None),
            },
        };
        let path = key.namespace.dir().join(LOCK_FILE);
        let open_locks = || LockFile::open(&path).map_err(failed);
        let (locks, wait_locks) = (open_locks()?, open_locks()?);
        let (namespace, own) = key.digests();
        let digests = (namespace.bits(), own.bits());
        let step_byte = step_byte(own.bits());
        locks
            .lock(step_byte, LockMode::Exclusive)
            .map_err(|error| failed(OpenFailure::Failed(error)))?;
        let state = state::read(&section);
        let incarnation = match state {
            Some(state) => state.incarnation,
            None => {
                let blank = ObjectState::blank(first_incarnation());
                state::write(&section, &blank);
                blank.incarnation
            }
        };
        let removed = Event::create(&format!("{name}.over.{incarnation:016x}"));
        let unlocked = locks.unlock(step_byte);
        let removed = removed.map_err(failed)?;
        unlocked.map_err(|error| failed(OpenFailure::Failed(error)))?;
        if state.is_some_and(|state| state.is_claimed() && state.digests != digests) {
            return Err(failed(OpenFailure::Foreign(
                "it belongs to another service, or has another layout",
            )));
        }
        Ok(Some(Self {
            service: key.name().to_owned(),
            name,
            digests,
            section,
            locks,
            wait_locks: Mutex::new(wait_locks),
            incarnation,
            removed,
            held: Mutex::default(),
        }))
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HeldObjects> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The byte of the step lock.
    pub(super) fn step_byte(&self) -> u64 {
        step_byte(self.digests.1)
    }

    /// The byte of the transition lock.
    pub(super) fn transition_byte(&self) -> u64 {
        self.step_byte() + 1
    }

    /// The name of an object of this incarnation.
    pub(super) fn object_name(&self, kind: &str) -> String {
        format!("{}.{kind}.{:016x}", self.name, self.incarnation)
    }

    /// Releases everything that this process holds of a removed incarnation.
    pub(super) fn forget(&self, held: &mut HeldObjects) {
        if held.lock {
            if let Err(error) = self.locks.unlock(self.transition_byte()) {
                tracing::error!(service = self.service, %error, "could not release the lock");
            }
        }
        *held = HeldObjects::default();
    }

    pub(super) fn fault(&self, operation: &'static str, failure: OpenFailure) -> Fault {
        Fault::Refused(match failure {
            OpenFailure::Foreign(reason) => Error::Foreign {
                service: self.service.clone(),
                object: self.name.clone(),
                reason: reason.to_owned(),
            },
            OpenFailure::Failed(source) => self.error(operation, source),
        })
    }

    fn error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Kernel {
            service: self.service.clone(),
            operation,
            advice: ADVICE.to_owned(),
            source,
        }
    }
}

/// Each service has two bytes of the file, far beyond its end. No two services share a byte.
fn step_byte(name: u64) -> u64 {
    name << 1
}

/// The number of the first incarnation in a new section.
///
/// No earlier section of this name may have used the number, because events of an earlier section may still
/// be open. So the number is the clock in nanoseconds. Each incarnation lasts longer than a nanosecond.
fn first_incarnation() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64)
}
