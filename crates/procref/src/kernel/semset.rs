//! One service's object as a System V semaphore set.
//!
//! | module | contents |
//! |---|---|
//! | [`layout`] | the slots of a set, and the encoding of an instance in them |
//! | [`steps`] | the steps: each is one array of operations |
//! | [`op_list`] | arrays that depend on the current values |
//! | [`set`] | the steps as the engine calls them |
//! | [`holders`] | which client holds a reference |
//! | `open` | opening a set, and the check that it belongs to the service |
//!
//! The first three modules, and the steps that a supervisor calls, are in the crate `procref-supervisor`,
//! because they must not allocate after a fork.
//!
//! All kernels with such sets use these modules: System V, the keeper, and the model. A set starts as all zeros, which means
//! "no references, unlocked, no instance". So a new set needs no initialization, and no process can read a
//! set that is only partly initialized. [semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html)
//! warns of that race.

mod holders;
#[cfg(unix)]
mod open;
mod set;

#[cfg(all(test, target_os = "linux"))]
pub(crate) use procref_supervisor::semset::signal_safe;
pub(crate) use procref_supervisor::semset::{layout, op_list, steps};

pub(crate) use layout::{MAX_VALUE, Values, decode, digests_in, slot};
#[cfg(unix)]
pub(crate) use open::{OpenArray, open};
pub(crate) use set::{SemArray, Set};
pub(crate) use steps::{MAX_OPS, Op, Wait};

#[cfg(test)]
mod tests;
