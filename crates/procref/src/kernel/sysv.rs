//! System V semaphore sets: one per service.
//!
//! Man pages: [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html),
//! [semop(2)](https://man7.org/linux/man-pages/man2/semop.2.html),
//! [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html),
//! [sysvipc(7)](https://man7.org/linux/man-pages/man7/sysvipc.7.html).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use procref_supervisor::raw_calls::{RawArray, RawCalls};
use procref_supervisor::semset::signal_safe::SignalSafeSet;

use super::semset::{self, MAX_OPS, MAX_VALUE, Op, OpenArray, SemArray, Set, Values, Wait, slot};
use super::{Fault, Kernel, Missing, Step};
use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod probe;
mod survey;
mod sys;

pub(crate) use probe::has_working_undo;
#[cfg(test)]
pub(crate) use probe::test_undo;
pub(crate) use survey::{has_no_candidates, is_listed};

/// The kernel with semaphore sets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemV;

impl Kernel for SystemV {
    type Object = Set<SysvArray>;

    fn prepare(&self) {
        sys::prepare();
    }

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<Self::Object>> {
        semset::open(key, missing).await
    }

    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>> {
        survey::survey(namespace)
    }

    fn is_instance(identity: Identity) -> Result<bool> {
        survey::is_instance(identity)
    }

    fn object_name(key: &ServiceKey) -> String {
        format!("0x{:08x}", key.short())
    }
}

impl OpenArray for SysvArray {
    fn open(key: &ServiceKey, missing: Missing) -> Result<Option<Self>> {
        match sys::get(key.short(), slot::COUNT, false) {
            Ok(id) => return Ok(Some(Self::new(id, key))),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(open_error(key, error));
            }
            Err(_) if missing == Missing::Ignore => return Ok(None),
            Err(_) => {}
        }
        // Another IPC namespace has no set of this service. If this process created one, it would treat the
        // instance in the record as a leftover of a removed set.
        process::check_view(key.namespace.view())?;
        // If this check came after the creation of the set, the set would stay, and no process could operate
        // on it.
        sys::check_length(MAX_OPS)
            .and_then(|()| sys::get(key.short(), slot::COUNT, true))
            .map(|id| Some(Self::new(id, key)))
            .map_err(|error| open_error(key, error))
    }

    /// Checks that a set belongs to this user, and that no other user can access it.
    ///
    /// `semget` returns every set with the key. A key has 32 bits that any process can compute, and the first process
    /// that creates a set owns it.
    fn checked_values(&self, key: &ServiceKey) -> Step<Values> {
        let foreign = |reason: String| {
            Fault::Refused(Error::Foreign {
                service: key.name().to_owned(),
                object: SystemV::object_name(key),
                reason,
            })
        };
        let owner = self.call("read the owner of the set", sys::owner)?;
        let uid = rustix::process::geteuid().as_raw();
        for (role, id) in [("belongs to", owner.uid), ("was created by", owner.creator)] {
            if id != uid {
                return Err(foreign(format!(
                    "it {role} uid {id}, and this process is uid {uid} (use another runtime directory, \
                 or have the set removed: ipcrm -S {})",
                    SystemV::object_name(key)
                )));
            }
        }
        if owner.mode & 0o077 != 0 {
            return Err(foreign(format!(
                "other users have access (mode {:04o}; remove it when no process uses it: ipcrm -S {})",
                owner.mode & 0o777,
                SystemV::object_name(key)
            )));
        }
        let values = self.call("read the set", |id| too_large(sys::values(id)))?;
        values.ok_or_else(|| {
            foreign(format!(
                "it has more than {} semaphores, so another program created it",
                slot::COUNT
            ))
        })
    }

    fn other_owner(&self, key: &ServiceKey) -> Error {
        Error::Foreign {
            service: key.name().to_owned(),
            object: SystemV::object_name(key),
            reason: "the name of another service, or another runtime directory, has the same 32-bit key, or another \
                     program uses it (rename the service)"
                .to_owned(),
        }
    }
}

/// Returns `None` if the set has more semaphores than this layout.
fn too_large(values: io::Result<Values>) -> io::Result<Option<Values>> {
    match values {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(None),
        values => values.map(Some),
    }
}

/// An open set.
pub(crate) struct SysvArray {
    id: sys::SetId,
    key: i32,
    service: Arc<str>,
}

impl SysvArray {
    /// Returns the set for a process whose code must be async-signal-safe.
    pub(crate) fn signal_safe(&self) -> SignalSafeSet<RawCalls> {
        SignalSafeSet::new(RawCalls::new(self.id))
    }

    fn new(id: sys::SetId, key: &ServiceKey) -> Self {
        Self {
            id,
            key: key.short(),
            service: key.name().into(),
        }
    }

    /// Returns the fault of a process that has used System V while another one chose the keeper for the namespace.
    pub(crate) fn namespace_changed(&self, dir: &Path) -> Fault {
        let advice = format!(
            "another process has just chosen the keeper for {}; try again",
            dir.display()
        );
        self.refused(
            "open the semaphore set",
            advice,
            io::ErrorKind::ResourceBusy.into(),
        )
    }

    fn call<T>(
        &self,
        operation: &'static str,
        call: impl Fn(sys::SetId) -> io::Result<T>,
    ) -> Step<T> {
        loop {
            match call(self.id) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(|error| self.fault(operation, error)),
            }
        }
    }

    /// Checks that the id still names this set. A thread that has moved to another IPC namespace finds another set
    /// there, or none. Each namespace assigns ids from the beginning, so that is likely.
    ///
    /// `semget` would also show this, but it takes a lock that all processes of the namespace share.
    fn check_own(&self, operation: &'static str) -> Step<()> {
        match self.call(operation, sys::key)? == self.key {
            true => Ok(()),
            false => Err(Fault::Removed),
        }
    }

    fn fault(&self, operation: &'static str, source: io::Error) -> Fault {
        let advice = match source.raw_os_error() {
            // EINVAL: the set was removed before the call. EIDRM: it was removed during a sleep. EFBIG, EFAULT,
            // EACCES: it was removed, and its id now names a smaller set, a larger set, or a set of another user.
            Some(libc::EINVAL | libc::EIDRM | libc::EFBIG | libc::EFAULT | libc::EACCES) => {
                return Fault::Removed;
            }
            Some(libc::ERANGE) => return self.out_of_range(operation, source),
            Some(libc::ENOMEM | libc::ENOSPC) => {
                "the kernel has no memory, or no room in its table, for this process's undo entry"
            }
            _ => "unexpected from semop(2) or semctl(2)",
        };
        self.refused(operation, advice.to_owned(), source)
    }

    fn refused(&self, operation: &'static str, advice: String, source: io::Error) -> Fault {
        Fault::Refused(Error::Kernel {
            service: self.service.as_ref().to_owned(),
            operation,
            advice,
            source,
        })
    }

    /// Handles `ERANGE`: a slot, or this process's undo value for the slot, would exceed the highest value.
    fn out_of_range(&self, operation: &'static str, source: io::Error) -> Fault {
        let full = sys::values(self.id)
            .is_ok_and(|values: Values| values[slot::REFS as usize] >= MAX_VALUE);
        if full {
            return Fault::Refused(Error::TooManyClients {
                service: self.service.as_ref().to_owned(),
                limit: MAX_VALUE.into(),
            });
        }
        let advice = format!("this process alone holds more than {MAX_VALUE} references");
        self.refused(operation, advice, source)
    }
}

impl SemArray for SysvArray {
    /// `None` stands for an array that is too long.
    type Prepared = Option<RawArray>;

    async fn operate(&self, operation: &'static str, ops: &[Op], wait: Wait) -> Step<bool> {
        self.check_own(operation)?;
        loop {
            match sys::operate(self.id, ops, wait) {
                Ok(()) => return Ok(true),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(false),
                    // A signal handler interrupted the call.
                    Some(libc::EINTR) => {}
                    _ => return Err(self.fault(operation, error)),
                },
            }
        }
    }

    fn prepare(&self, ops: &[Op]) -> Self::Prepared {
        RawArray::new(ops, Wait::No).ok()
    }

    async fn operate_on_own(&self, operation: &'static str, array: &Self::Prepared) -> Step<bool> {
        let done = match array {
            Some(array) => self.call(operation, |id| sys::perform(id, array))?,
            None => false,
        };
        if !done {
            // The array does not show whether the set of this id is another one, or only has other values.
            self.check_own(operation)?;
        }
        Ok(done)
    }

    fn has_long_arrays(&self) -> bool {
        true
    }

    fn operate_within(
        &self,
        operation: &'static str,
        ops: &[Op],
        limit: Duration,
    ) -> Option<Step<bool>> {
        let start = Instant::now();
        Some(self.call(operation, |id| {
            // After an interruption by a signal handler, the call is repeated with the rest of the limit.
            let left = limit.saturating_sub(start.elapsed());
            match sys::operate_within(id, ops, left) {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
                done => done.map(|()| true),
            }
        }))
    }

    async fn values(&self) -> Step<Values> {
        self.call("read the set", sys::values)
    }

    async fn remove(&self) -> Step<()> {
        let operation = "remove the set";
        self.check_own(operation)?;
        self.call(operation, sys::remove)
    }

    async fn last_pid(&self, slot: u16) -> Step<Option<u32>> {
        self.call("read the last pid of a slot", |id| sys::last_pid(id, slot))
    }

    async fn sleepers(&self, slot: u16) -> Step<u32> {
        self.call("read the number of waiting processes", |id| {
            sys::sleepers(id, slot)
        })
    }

    async fn changed_at(&self) -> Step<SystemTime> {
        let seconds = self.call("read the time of the last change", sys::changed_at)?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    fn corrupted(&self, operation: &'static str) -> Fault {
        let advice = "another program wrote to the set; when no process uses the service, remove the set with \
                      ipcrm";
        let source = io::Error::new(
            io::ErrorKind::InvalidData,
            "the values of the set are inconsistent",
        );
        self.refused(operation, advice.to_owned(), source)
    }
}

fn open_error(key: &ServiceKey, source: io::Error) -> Error {
    let foreign = |reason: &str| Error::Foreign {
        service: key.name().to_owned(),
        object: SystemV::object_name(key),
        reason: reason.to_owned(),
    };
    let advice = match source.raw_os_error() {
        Some(libc::EACCES) => {
            return foreign("it belongs to another user, and this user has no access");
        }
        // EINVAL has two meanings: the existing set is too small, or this machine does not allow a set that is large
        // enough.
        Some(libc::EINVAL) if sys::get(key.short(), 0, false).is_ok() => {
            return foreign("it has fewer semaphores, so another program created it");
        }
        Some(libc::EINVAL) => format!(
            "a set has {} semaphores, and the first number of `sysctl kernel.sem` (SEMMSL) allows \
             fewer; raise it",
            slot::COUNT
        ),
        Some(libc::ENOSPC) => format!(
            "this machine has the maximum number of semaphore sets, or of semaphores: the fourth \
             (SEMMNI) or second (SEMMNS) number of `sysctl kernel.sem`; raise it, or remove unused \
             sets (`ipcs -s`, `ipcrm`); a service takes one set of {}",
            slot::COUNT
        ),
        Some(libc::E2BIG) => format!(
            "a step has up to {MAX_OPS} operations, and the third number of `sysctl \
             kernel.sem` (SEMOPM) allows fewer; raise it"
        ),
        Some(libc::ENOSYS) => "this kernel or sandbox has no System V semaphores".to_owned(),
        Some(libc::ENOMEM) => "the kernel has no memory for another set".to_owned(),
        _ => "unexpected from semget(2)".to_owned(),
    };
    Error::Kernel {
        service: key.name().to_owned(),
        operation: "open the semaphore set",
        advice,
        source,
    }
}

#[cfg(test)]
mod tests;
