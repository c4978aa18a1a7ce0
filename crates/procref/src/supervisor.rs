//! Supervisors, on the side of the process that starts them.

mod arena;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod maps;
pub(crate) mod receive;
pub(crate) mod spawn;
