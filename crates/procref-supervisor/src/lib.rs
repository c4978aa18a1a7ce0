//! An internal part of [procref](https://docs.rs/procref): the supervisor process, without the standard library.
//!
//! A supervisor is a fork of a process with threads, and it executes no program. At the moment of the fork another
//! thread may have held the allocator's lock, or any other lock, and that thread does not exist in the child. So the
//! child may only make system calls ([signal-safety(7)](https://man7.org/linux/man-pages/man7/signal-safety.7.html)):
//! no allocation, no lock, no thread-local value of the standard library, no panic. This crate cannot name `Vec`,
//! `Mutex` or `std::io`, so the compiler checks most of that.
//!
//! | module | contents |
//! |---|---|
//! | `state`, `spec` | an instance, a snapshot, a launch. Plain data, also used on Windows |
//! | `semset` | the slots of a semaphore set and the steps on it, without system calls |
//! | `life`, `ops` | the life of a supervisor, and the operations that it needs |
//! | `raw_calls`, `calls`, `process`, `kqueue` | async-signal-safe system calls |
//! | `called` | the functions of other libraries that the code after the fork calls |
//! | `channel`, `prepared` | the data that starter and supervisor share |
//! | `tree`, `log` | the processes of a service, and its log, as their parent handles them |
//! | `forked`, `exec` | the code after the fork |
//! | `crash` | crash points for procref's own tests |
//!
//! The interface of this crate may change in any release.

#![no_std]

#[doc(hidden)]
pub mod crash;
#[doc(hidden)]
pub mod semset;
#[doc(hidden)]
pub mod spec;
#[doc(hidden)]
pub mod state;

#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod called;
#[cfg(unix)]
#[doc(hidden)]
pub mod calls;
#[cfg(unix)]
#[doc(hidden)]
pub mod channel;
#[cfg(unix)]
mod clock;
#[cfg(unix)]
mod exec;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod forked;
#[cfg(target_os = "macos")]
#[doc(hidden)]
pub mod kqueue;
#[cfg(unix)]
#[doc(hidden)]
pub mod life;
#[cfg(unix)]
#[doc(hidden)]
pub mod log;
#[cfg(unix)]
#[doc(hidden)]
pub mod ops;
#[cfg(unix)]
#[doc(hidden)]
pub mod prepared;
#[cfg(unix)]
#[doc(hidden)]
pub mod process;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod raw_calls;
#[cfg(unix)]
mod text;
#[cfg(unix)]
#[doc(hidden)]
pub mod tree;

#[cfg(test)]
extern crate std;
