//! Real client processes, a real service, and observers from outside, for the tests of procref.
//!
//! procref's guarantees are about *many processes*: one of them starts the service, the kernel releases the
//! reference of a killed process, and nothing is left after the last one. A single process cannot check these
//! guarantees, and neither can the library itself. So the tests use
//!
//! - [`scene::Scene`]: a runtime directory for each test. When the scene is dropped, no semaphore set, file or
//!   process may be left;
//! - [`actor::Actor`]: a client process (`procref-actor`) that reads commands from a pipe and reports events, so that a
//!   test orders events by events and never by sleeping;
//! - `procref-fake-service`: the service that the clients share. It holds a file lock that procref does not know, so
//!   two live instances expose themselves ([`log::Line::Overlap`]);
//! - [`observe`]: processes as `/proc` or process handles show them, without any code of the library.
//!
//! The crate works on Linux and on Windows, and is empty on other systems. Features of one system are in
//! separate files with the system's name. For Linux, these are signals, `fork`, `exec`, namespaces and System
//! V semaphores (`kernel`). For Windows, these are consoles and named pipes.
#![cfg(any(target_os = "linux", windows))]

pub mod actor;
pub mod deadline;
pub mod fake;
#[cfg(target_os = "linux")]
pub mod kernel;
mod key;
pub mod log;
#[cfg(target_os = "linux")]
pub mod namespace;
pub mod observe;
pub mod process;
pub mod protocol;
pub mod query;
pub mod scene;
mod shared;

pub use actor::{Actor, Held, Pending};
pub use scene::Scene;

/// Creates a [`Scene`] with the paths of this package's programs.
///
/// This is a macro, because Cargo gives the paths of the programs only to integration tests of the package.
#[macro_export]
macro_rules! scene {
    () => {
        $crate::Scene::new(
            env!("CARGO_BIN_EXE_procref-actor"),
            env!("CARGO_BIN_EXE_procref-fake-service"),
        )
    };
}

/// Compiles the examples of the README. They are here because the package of the library does not contain the file.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles the examples of the page about testing.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
struct Testing;
