//! The work that a service's process does before it executes the service's program.
//!
//! `procref` itself runs in the service's process, does this work, and then executes the program.
//! [`procref_config::prestart`] writes its command line, and reads its reports.
//!
//! | module | contents |
//! |---|---|
//! | [`args`] | the command line of the hidden subcommand |
//! | [`exec`] | does the work and executes the program |
//! | [`data`] | fills and locks the data directory |
//! | [`log`] | reports a failure through the service's log |
//!
//! # Dependencies
//!
//! The service's process takes a reference to each service that it depends on. References belong to the process, so
//! the program keeps them. A dependency therefore lives as long as its dependent, even if all clients die.
//!
//! The process only joins dependencies and never starts them: the clients have acquired them before, in order. A
//! supervisor that is started here would belong to this service and stop with it.
//!
//! # Initialization
//!
//! The library runs one start of a service at a time in a runtime directory. Several runtime directories may use one
//! data directory, and the data directory outlives them. It has its own lock, and notes that record whether it was
//! filled. See [`data`].

pub(crate) mod args;
mod data;
pub(crate) mod exec;
mod log;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;
