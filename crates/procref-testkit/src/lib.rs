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
//! - [`observe`]: processes, by `/proc` or by handle, without any code of the library.
//!
//! All of it is there on Linux and on Windows, elsewhere the crate is empty. What one of the two systems has
//! alone is in files of its own, named after it: signals, `fork` and `exec`, namespaces, and
//! System V semaphores ([`kernel`]) on Linux, consoles and named pipes on Windows.
#![cfg(any(target_os = "linux", windows))]

pub mod actor;
pub mod deadline;
pub mod fake;
#[cfg(target_os = "linux")]
pub mod kernel;
pub mod log;
#[cfg(target_os = "linux")]
pub mod namespace;
pub mod observe;
pub mod process;
pub mod protocol;
pub mod query;
pub mod scene;

pub use actor::{Actor, Held, Pending};
pub use scene::Scene;

/// A [`Scene`] for the calling test, with the paths of this package's programs.
///
/// A macro, because only an integration test of the package is told by Cargo
/// where the binaries are.
#[macro_export]
macro_rules! scene {
    () => {
        $crate::Scene::new(
            env!("CARGO_BIN_EXE_procref-actor"),
            env!("CARGO_BIN_EXE_procref-fake-service"),
        )
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
