//! The kernel of Linux: System V semaphore sets, or keepers. Each namespace uses one of them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procref_supervisor::raw_calls::RawCalls;
use procref_supervisor::semset::signal_safe::SignalSafeSet;

use super::counted::{Counted, RemoteArray};
use super::selection::{self, Choice};
use super::semset::{self, Op, OpenArray, SemArray, Set, Values, Wait};
use super::sysv::{SystemV, SysvArray};
use super::{Fault, Kernel, Missing, Step};
use crate::error::{Error, Result};
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::Namespace;
use crate::process::Identity;

/// The kernel that this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Linux;

/// An open object, in the kernel of its namespace.
pub(crate) enum NativeArray {
    SystemV { array: SysvArray, dir: Arc<Path> },
    Keeper(Arc<RemoteArray>),
}

/// An object for the code that starts a supervisor.
#[derive(Clone)]
pub(crate) enum NativeSet {
    /// The supervisor is a forked process, which makes system calls on the set.
    SystemV(SignalSafeSet<RawCalls>),
    /// The supervisor is a thread of the keeper.
    Keeper(Arc<RemoteArray>),
}

impl Kernel for Linux {
    type Object = Set<NativeArray>;

    fn prepare(&self) {
        SystemV.prepare();
    }

    async fn open(&self, key: &ServiceKey, missing: Missing) -> Result<Option<Self::Object>> {
        semset::open(key, missing).await
    }

    fn survey(&self, namespace: &Namespace) -> Result<Vec<Digest>> {
        match selection::recorded(namespace.dir())? {
            Choice::SystemV if selection::has_no_sets() => Ok(Vec::new()),
            Choice::SystemV => SystemV.survey(namespace),
            Choice::Keeper => Counted.survey(namespace),
        }
    }

    fn sweep(&self, namespace: &Namespace) -> Result<()> {
        match selection::recorded(namespace.dir())? {
            Choice::SystemV => Ok(()),
            Choice::Keeper => Counted.sweep(namespace),
        }
    }

    fn is_instance(identity: Identity) -> Result<bool> {
        if !selection::has_no_sets() && SystemV::is_instance(identity)? {
            return Ok(true);
        }
        Counted::is_instance(identity)
    }

    fn object_name(key: &ServiceKey) -> String {
        match selection::expected(key) {
            Ok(Choice::SystemV) => SystemV::object_name(key),
            Ok(Choice::Keeper) => Counted::object_name(key),
            Err(error) => error.to_string(),
        }
    }
}

impl Set<NativeArray> {
    /// Returns the object for the code that starts a supervisor.
    pub(crate) fn signal_safe(&self) -> NativeSet {
        match self.array() {
            NativeArray::SystemV { array, .. } => NativeSet::SystemV(array.signal_safe()),
            NativeArray::Keeper(array) => NativeSet::Keeper(Arc::clone(array)),
        }
    }
}

impl OpenArray for NativeArray {
    fn open(key: &ServiceKey, missing: Missing) -> Result<Option<Self>> {
        let dir = key.namespace.dir();
        let mut choice = selection::recorded(dir)?;
        if choice == Choice::SystemV && missing == Missing::Create {
            choice = selection::choose(key)?;
        }
        if choice == Choice::SystemV {
            let array = match SysvArray::open(key, missing) {
                Err(error) if selection::is_refused(&error) && selection::has_no_sets() => {
                    match missing {
                        Missing::Ignore => return Ok(None),
                        Missing::Create => choice = selection::fall_back(key, error)?,
                    }
                    None
                }
                opened => opened?,
            };
            if choice == Choice::SystemV {
                let dir = key.namespace.shared_dir();
                return Ok(array.map(|array| Self::SystemV { array, dir }));
            }
        }
        let opened =
            Arc::<RemoteArray>::open(key, missing).map_err(|error| selection::named(error, dir));
        Ok(opened?.map(Self::Keeper))
    }

    fn checked_values(&self, key: &ServiceKey) -> Step<Values> {
        match self {
            Self::SystemV { array, .. } => array.checked_values(key),
            Self::Keeper(array) => array.checked_values(key),
        }
    }

    fn check_blank(&self, key: &ServiceKey) -> Step<()> {
        match self {
            Self::SystemV { .. } => Ok(()),
            Self::Keeper(_) => selection::check_unused_by_system_v(key).map_err(Fault::Refused),
        }
    }

    fn other_owner(&self, key: &ServiceKey) -> Error {
        match self {
            Self::SystemV { array, .. } => array.other_owner(key),
            Self::Keeper(array) => array.other_owner(key),
        }
    }
}

/// Calls a method of the array of either kernel.
macro_rules! either {
    ($self:ident, $array:ident => $call:expr) => {
        match $self {
            NativeArray::SystemV { array: $array, .. } => $call,
            NativeArray::Keeper($array) => $call,
        }
    };
}

/// An array of operations for the kernel of an object.
pub(crate) enum NativePrepared {
    SystemV(<SysvArray as SemArray>::Prepared),
    Keeper(<Arc<RemoteArray> as SemArray>::Prepared),
}

impl SemArray for NativeArray {
    type Prepared = NativePrepared;

    async fn operate(&self, operation: &'static str, ops: &[Op], wait: Wait) -> Step<bool> {
        either!(self, array => array.operate(operation, ops, wait).await)
    }

    fn prepare(&self, ops: &[Op]) -> NativePrepared {
        match self {
            Self::SystemV { array, .. } => NativePrepared::SystemV(array.prepare(ops)),
            Self::Keeper(array) => NativePrepared::Keeper(array.prepare(ops)),
        }
    }

    async fn operate_on_own(
        &self,
        operation: &'static str,
        prepared: &NativePrepared,
    ) -> Step<bool> {
        match (self, prepared) {
            (Self::SystemV { array, .. }, NativePrepared::SystemV(ops)) => {
                array.operate_on_own(operation, ops).await
            }
            (Self::Keeper(array), NativePrepared::Keeper(ops)) => {
                array.operate_on_own(operation, ops).await
            }
            // Since the array was prepared, the namespace has chosen another kernel.
            _ => Ok(false),
        }
    }

    fn has_long_arrays(&self) -> bool {
        either!(self, array => array.has_long_arrays())
    }

    fn operate_within(
        &self,
        operation: &'static str,
        ops: &[Op],
        limit: Duration,
    ) -> Option<Step<bool>> {
        either!(self, array => array.operate_within(operation, ops, limit))
    }

    async fn values(&self) -> Step<Values> {
        either!(self, array => array.values().await)
    }

    async fn remove(&self) -> Step<()> {
        either!(self, array => array.remove().await)
    }

    async fn last_pid(&self, slot: u16) -> Step<Option<u32>> {
        either!(self, array => array.last_pid(slot).await)
    }

    async fn sleepers(&self, slot: u16) -> Step<u32> {
        either!(self, array => array.sleepers(slot).await)
    }

    async fn changed_at(&self) -> Step<SystemTime> {
        either!(self, array => array.changed_at().await)
    }

    fn own_pid(&self) -> u32 {
        either!(self, array => array.own_pid())
    }

    fn check_claim(&self) -> Step<()> {
        match self {
            Self::SystemV { array, dir } => match selection::recorded(dir)? {
                Choice::SystemV => Ok(()),
                Choice::Keeper => Err(array.namespace_changed(dir)),
            },
            Self::Keeper(_) => Ok(()),
        }
    }

    fn corrupted(&self, operation: &'static str) -> Fault {
        either!(self, array => array.corrupted(operation))
    }
}
