//! Linux: one System V semaphore set per service.
//!
//! Man pages: [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html),
//! [semop(2)](https://man7.org/linux/man-pages/man2/semop.2.html),
//! [semctl(2)](https://man7.org/linux/man-pages/man2/semctl.2.html),
//! [sysvipc(7)](https://man7.org/linux/man-pages/man7/sysvipc.7.html).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use procref_supervisor::raw_calls::{NativeSet, RawCalls};

use super::semset::{MAX_OPS, MAX_VALUE, Op, Owner, SemArray, Set, Values, Wait, slot};
use super::{Fault, Kernel, Missing, Step};
use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod survey;
mod sys;

/// The kernel this code runs on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemV;

impl Kernel for SystemV {
    type Object = Set<SysvArray>;

    fn prepare(&self) {
        sys::prepare();
    }

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<Self::Object>> {
        loop {
            let Some(array) = SysvArray::open(key, missing)? else {
                return Ok(None);
            };
            match verified(array, key).await {
                Ok(set) => return Ok(Some(set)),
                // Removed between two calls: its last holder stopped the service. Look again.
                Err(Fault::Removed) => {}
                Err(Fault::Refused(error)) => return Err(error),
            }
        }
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

/// A set is used only if it is this user's, nobody else can get at it, it has this layout, and is
/// this service's or blank. `semget` finds whatever has the key: keys are 32 bits that anybody can
/// compute, and the first to create a set owns it.
async fn verified(array: SysvArray, key: &ServiceKey) -> Step<Set<SysvArray>> {
    let foreign = |reason: String| {
        Fault::Refused(Error::Foreign {
            service: key.name().to_owned(),
            object: SystemV::object_name(key),
            reason,
        })
    };
    let owner = array.call("look at the set", sys::owner)?;
    let uid = rustix::process::geteuid().as_raw();
    for (role, id) in [("belongs to", owner.uid), ("was created by", owner.creator)] {
        if id != uid {
            return Err(foreign(format!(
                "it {role} uid {id}, and this process is uid {uid}; use another runtime directory \
                 or have it removed (ipcrm -S {})",
                SystemV::object_name(key)
            )));
        }
    }
    if owner.mode & 0o077 != 0 {
        return Err(foreign(format!(
            "others can get at it (mode {:04o}); remove it (ipcrm -S {}) when nothing uses it",
            owner.mode & 0o777,
            SystemV::object_name(key)
        )));
    }
    let values = match array.call("read the set", |id| too_large(sys::values(id)))? {
        Some(values) => values,
        None => {
            return Err(foreign(format!(
                "it has more than {} semaphores, so another program made it",
                slot::COUNT
            )));
        }
    };
    let set = Set::new(array, key);
    set.note_free_slot(&values);
    match set.owner_of(&values) {
        Owner::This => Ok(set),
        Owner::Unclaimed => {
            process::check_view(key.namespace.view())?;
            Ok(set)
        }
        Owner::Other => Err(foreign(
            "another service's name, or another runtime directory, gives the same 32-bit key, or \
             another program uses it; rename the service"
                .to_owned(),
        )),
    }
}

/// `None`: the set has more semaphores than there is room for.
fn too_large(values: io::Result<Values>) -> io::Result<Option<Values>> {
    match values {
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(None),
        values => values.map(Some),
    }
}

impl Set<SysvArray> {
    /// The set for a process that may do nothing but bare system calls.
    pub(crate) fn signal_safe(&self) -> NativeSet {
        NativeSet::new(RawCalls::new(self.array().id))
    }
}

/// An open set.
pub(crate) struct SysvArray {
    id: sys::SetId,
    key: i32,
    service: Arc<str>,
}

impl SysvArray {
    fn open(key: &ServiceKey, missing: Missing) -> Result<Option<Self>> {
        match sys::get(key.short(), slot::COUNT, false) {
            Ok(id) => return Ok(Some(Self::new(id, key))),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(open_error(key, error));
            }
            Err(_) if missing == Missing::Ignore => return Ok(None),
            Err(_) => {}
        }
        // Another IPC namespace has no set of this service. One that is made there would be taken for one that
        // somebody has removed, and the instance that the record names for a leftover.
        process::check_view(key.namespace.view())?;
        // Found out later, it would leave a set that nobody can operate on.
        sys::check_length(MAX_OPS)
            .and_then(|()| sys::get(key.short(), slot::COUNT, true))
            .map(|id| Some(Self::new(id, key)))
            .map_err(|error| open_error(key, error))
    }

    fn new(id: sys::SetId, key: &ServiceKey) -> Self {
        Self {
            id,
            key: key.short(),
            service: key.name().into(),
        }
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

    /// Whether the id still names this set. A thread that has moved to another IPC namespace finds another set
    /// there, or none: ids begin anew in each, so that is likely.
    ///
    /// `semget` would tell as well, but it takes a lock that all processes of the namespace share.
    fn check_own(&self, operation: &'static str) -> Step<()> {
        match self.call(operation, sys::key)? == self.key {
            true => Ok(()),
            false => Err(Fault::Removed),
        }
    }

    fn fault(&self, operation: &'static str, source: io::Error) -> Fault {
        let advice = match source.raw_os_error() {
            // EINVAL: removed before the call; EIDRM: removed while it slept. EFBIG, EFAULT, EACCES:
            // removed, and the id went to a smaller or larger set, or to another user's.
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

    /// `ERANGE`: a slot would pass its highest value, or this process's undo for it would.
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
    async fn operate(&self, operation: &'static str, ops: &[Op], wait: Wait) -> Step<bool> {
        self.check_own(operation)?;
        loop {
            match sys::operate(self.id, ops, wait) {
                Ok(()) => return Ok(true),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(false),
                    // A signal handler ran.
                    Some(libc::EINTR) => {}
                    _ => return Err(self.fault(operation, error)),
                },
            }
        }
    }

    fn operate_within(
        &self,
        operation: &'static str,
        ops: &[Op],
        limit: Duration,
    ) -> Option<Step<bool>> {
        let start = Instant::now();
        Some(self.call(operation, |id| {
            // Again with what is left, where a signal handler ran.
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
        self.call("ask who changed the set", |id| sys::last_pid(id, slot))
    }

    async fn sleepers(&self, slot: u16) -> Step<u32> {
        self.call("ask who waits", |id| sys::sleepers(id, slot))
    }

    async fn changed_at(&self) -> Step<SystemTime> {
        let seconds = self.call("ask when the set changed", sys::changed_at)?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    fn corrupted(&self, operation: &'static str) -> Fault {
        let advice = "somebody wrote to the set from outside; when nothing uses the service, \
                      remove the set with ipcrm";
        let source = io::Error::new(
            io::ErrorKind::InvalidData,
            "values are not as they were left",
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
            return foreign("it belongs to another user, who keeps it closed to this one");
        }
        // One errno for two things: a set that is too small, and a machine that allows no larger.
        Some(libc::EINVAL) if sys::get(key.short(), 0, false).is_ok() => {
            return foreign("it has fewer semaphores, so another program made it");
        }
        Some(libc::EINVAL) => format!(
            "a set has {} semaphores, and the first number of `sysctl kernel.sem` (SEMMSL) allows \
             fewer; raise it",
            slot::COUNT
        ),
        Some(libc::ENOSPC) => format!(
            "this machine has as many semaphore sets, or semaphores, as it may have: the fourth \
             (SEMMNI) or second (SEMMNS) number of `sysctl kernel.sem`; raise it, or remove what \
             nobody uses (`ipcs -s`, `ipcrm`); a service takes one set of {}",
            slot::COUNT
        ),
        Some(libc::E2BIG) => format!(
            "a step takes up to {MAX_OPS} operations at once, and the third number of `sysctl \
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
