//! Opening the object of a service as a semaphore set.

use super::layout::Values;
use super::set::{Owner, SemArray, Set};
use crate::error::{Error, Result};
use crate::kernel::{Fault, Missing, Step};
use crate::key::ServiceKey;
use crate::process;

/// An array that can be opened by the key of a service.
pub(crate) trait OpenArray: SemArray + Sized {
    /// Returns the array of a service, or `None` if it is missing and `missing` is [`Missing::Ignore`].
    fn open(key: &ServiceKey, missing: Missing) -> Result<Option<Self>>;

    /// Checks that no other user can access the array, and returns its values.
    fn checked_values(&self, key: &ServiceKey) -> Step<Values>;

    /// Checks that a blank array may be used.
    fn check_blank(&self, _key: &ServiceKey) -> Step<()> {
        Ok(())
    }

    /// Returns the error for an array that belongs to another service.
    fn other_owner(&self, key: &ServiceKey) -> Error;
}

/// Opens the object of a service, and checks that it belongs to this service or is blank.
pub(crate) async fn open<A: OpenArray>(
    key: &ServiceKey,
    missing: Missing,
) -> Result<Option<Set<A>>> {
    loop {
        let Some(array) = A::open(key, missing)? else {
            return Ok(None);
        };
        match checked(array, key) {
            Ok(set) => return Ok(Some(set)),
            // The last client has stopped the service between two calls, and removed the object. The loop
            // opens or creates another one.
            Err(Fault::Removed) => {}
            Err(Fault::Refused(error)) => return Err(error),
        }
    }
}

fn checked<A: OpenArray>(array: A, key: &ServiceKey) -> Step<Set<A>> {
    let values = array.checked_values(key)?;
    let set = Set::new(array, key);
    set.note_free_slot(&values);
    match set.owner_of(&values) {
        Owner::This => Ok(set),
        Owner::Unclaimed => {
            process::check_view(key.namespace.view())?;
            set.array().check_blank(key)?;
            Ok(set)
        }
        Owner::Other => Err(Fault::Refused(set.array().other_owner(key))),
    }
}
