//! An internal part of [procref](https://docs.rs/procref): the supervisor process, without the standard library.
//!
//! A supervisor is a fork of a process with threads, and executes no program. Another thread may have held the
//! allocator's lock, or any other lock, at the moment of the fork, and that thread does not exist in the child. So its
//! code makes only system calls
//! ([signal-safety(7)](https://man7.org/linux/man-pages/man7/signal-safety.7.html)). This crate cannot name `Vec`,
//! `Mutex` or `std::io`, so the compiler keeps to that rule.
//!
//! It follows no semantic versioning of its own.

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
pub mod calls;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod channel;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod forked;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod life;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod prepared;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod process;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod raw_calls;
#[cfg(target_os = "linux")]
mod text;

#[cfg(test)]
extern crate std;
