//! The steps as arrays of operations on one System V semaphore set.
//!
//! What each slot holds and which operations make up each step stands here, for every kernel that
//! has such sets: the real one and the model. A set starts as all zeros, which means "nobody,
//! unlocked, no instance", so a new one needs no initialisation, and there is no moment between
//! creating and initialising it in which somebody could see half of it
//! ([semget(2)](https://man7.org/linux/man-pages/man2/semget.2.html) warns of that race).

mod holders;
pub(crate) mod layout;
pub(crate) mod op_list;
mod set;
pub(crate) mod signal_safe;
pub(crate) mod steps;

pub(crate) use layout::{MAX_VALUE, Values, decode, digests_in, slot};
pub(crate) use set::{Owner, SemArray, Set};
pub(crate) use steps::{MAX_OPS, Op, Wait};

#[cfg(test)]
mod tests;
