//! The work that a service's process does before it executes the service's program.
//!
//! `procref` itself runs in the service's process, does this work, and then executes the program.
//!
//! | module | contents |
//! |---|---|
//! | [`args`] | the command line of the hidden subcommand |
//! | [`task`] | the part of it that is JSON |
//! | [`command_line`] | builds that command line, and finds the program in it |
//! | [`exec`] | does the work and executes the program |
//! | [`data`] | fills and locks the data directory |
//! | [`log`], [`failure`] | reports a failure through the service's log, and reads it there |
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
pub(crate) mod command_line;
mod data;
pub(crate) mod dependency;
pub(crate) mod exec;
pub(crate) mod failure;
mod log;
mod task;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub(crate) use sys::{ready_after_exec, started, started_by_default};
