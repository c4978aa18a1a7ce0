//! The starter's part of a supervisor.
//!
//! A supervisor is a small process that stops the service after its last client. `procref-supervisor` has its code and
//! its [life](procref_supervisor::life). This module prepares its data, forks it, and receives its reports:
//!
//! ```text
//!  spawn      lists the memory that the supervisor can unmap   (maps, objects)
//!             puts all data into one mapping                   (arena, spawn/prepare)
//!             forks twice                                      -> procref_supervisor::forked
//!  receive    reads the reports of the supervisor, or of the attendant between the two processes
//! ```
//!
//! A supervisor outlives its starter, and must not keep any resources of the starter. So it leaves the
//! session, closes every descriptor, blocks every signal, changes to `/`, and unmaps the starter's memory.

mod arena;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod maps;
mod objects;
pub(crate) mod receive;
pub(crate) mod spawn;
