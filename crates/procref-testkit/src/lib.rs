//! Real client processes, a real service, and observers from outside.
//!
//! procref promises things about *many processes*: that one of them starts the
//! service, that a killed one gives its reference back, that nothing is left
//! after the last one. None of that can be judged from inside one process, nor
//! by the library itself. So the tests in this crate are built from
//!
//! - [`scene::Scene`]: a runtime directory of its own for every test, and the
//!   look around at the end: no semaphore set, no file, no process may be left;
//! - [`actor::Actor`]: a client process (`procref-actor`) that does what it is
//!   told over a pipe and tells what happens to it, so that a test orders
//!   events by events and never by sleeping;
//! - `procref-fake-service`: the service the clients share. It holds a file
//!   lock that has nothing to do with procref, so two live instances convict
//!   themselves ([`log::Line::Overlap`]);
//! - [`observe`]: `/proc`, `/proc/sysvipc/sem` and bare `semctl`, read without
//!   any code of the library.
//!
//! Actors and observers are for Linux. On Windows there is only what a test needs that the standard library
//! has not got, in [`process`]; elsewhere the crate is empty.
#![cfg(any(target_os = "linux", windows))]

#[cfg(target_os = "linux")]
pub mod actor;
#[cfg(target_os = "linux")]
pub mod deadline;
#[cfg(target_os = "linux")]
pub mod fake;
#[cfg(target_os = "linux")]
pub mod kernel;
#[cfg(target_os = "linux")]
pub mod log;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(target_os = "linux")]
pub mod observe;
pub mod process;
#[cfg(target_os = "linux")]
pub mod protocol;
#[cfg(target_os = "linux")]
pub mod scene;
#[cfg(target_os = "linux")]
pub mod talk;

#[cfg(target_os = "linux")]
pub use actor::{Actor, Held};
#[cfg(target_os = "linux")]
pub use scene::Scene;

/// A [`Scene`] for the calling test, with the paths of this package's programs.
///
/// A macro, because only an integration test of the package is told by Cargo
/// where the binaries are.
#[macro_export]
macro_rules! scene {
    () => {
        $crate::Scene::new($crate::scene::Programs {
            actor: env!("CARGO_BIN_EXE_procref-actor").into(),
            service: env!("CARGO_BIN_EXE_procref-fake-service").into(),
        })
    };
}

/// The README's examples, compiled with the others. Here and not in the library, whose package has no
/// such files.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// That of the page about tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
struct Testing;
