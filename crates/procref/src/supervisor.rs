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
//!
//! On macOS only `receive` exists, because supervisors are threads of keepers.

use std::io;

use crate::error::Error;
use crate::key::ServiceKey;

#[cfg(target_os = "linux")]
mod arena;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(target_os = "linux")]
mod maps;
#[cfg(target_os = "linux")]
mod objects;
pub(crate) mod receive;
#[cfg(target_os = "linux")]
pub(crate) mod spawn;

/// Returns a function that turns the error of a system call into that of an operation on a service's supervisor.
pub(crate) fn failed(key: &ServiceKey, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    let service = key.name().to_owned();
    move |source| Error::Supervisor {
        service,
        operation,
        source,
    }
}
