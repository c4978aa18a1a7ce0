//! After the fork: the supervisor, its attendant and the service's process until its program runs.

mod attendant;
mod calls;
pub mod entry;
mod exec;
mod log;
mod subreaper;
